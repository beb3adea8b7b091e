// What the sandbox costs: the same model in an engine with it and in one without. They decode by turns of a few tokens,
// the first of a pair changing each time, so that two figures of a pair are a fraction of a second apart; the claim is
// about the median of many pairs.
import { sandboxPlatform } from '../../packages/containment/src/index.ts';
import { directPlatform } from '../../packages/testkit/src/index.ts';
import { claim, pairedRatio, quantile, spread } from './figures.mjs';
import { engineLine, filesOf } from './lines.mjs';
import { watchNoise } from './noise.mjs';
import { cpuSeconds, familyOf, programOf } from './processes.mjs';

const COST_MAX = 0.02;
const TOKENS = 10;

export async function wardenBench({ model, folder, pairs, threads, log }) {
  const context = { n_ctx: 256, n_batch: 64, n_seq_max: 1, mode: 'exact', threads, gpu: false };
  const whole = await filesOf(model, 1, folder);
  const running = [];
  try {
    log('loading for the warden');
    for (const platform of [sandboxPlatform(), directPlatform()])
      running.push(await engineLine(whole, platform, context));
    const wardens = familyOf(process.pid).filter((pid) => programOf(pid) === 'warden');
    for (const line of running) await line.decode(TOKENS);
    const took = running.map(() => []);
    const before = wardens.map(cpuSeconds);
    const began = performance.now();
    const noise = watchNoise();
    for (let pair = 0; pair < pairs; pair++) {
      if (pair % 10 === 0) log(`warden: pair ${pair + 1} of ${pairs}`);
      for (const which of pair % 2 === 0 ? [0, 1] : [1, 0]) {
        const { milliseconds } = await running[which].decode(TOKENS);
        took[which].push(quantile(milliseconds, 0.5));
      }
      noise.tick();
    }
    const seconds = (performance.now() - began) / 1000;
    const share = wardens.reduce((sum, pid, i) => sum + cpuSeconds(pid) - before[i], 0) / seconds;
    const ratio = pairedRatio(took[0], took[1]);
    const minus = (value) => value - 1;
    const cost = {
      median: minus(ratio.median),
      quarter: minus(ratio.quarter),
      three_quarters: minus(ratio.three_quarters),
      interval: ratio.interval.map(minus),
    };
    return {
      pairs,
      noise: noise.report(),
      milliseconds_with: spread(took[0]),
      milliseconds_without: spread(took[1]),
      cost,
      share_of_a_core: share,
      claims: [
        claim('cost of the sandbox on decoding', cost.median, {
          atMost: COST_MAX,
          interval: cost.interval,
        }),
        claim("the warden's own share of a core", share, { atMost: COST_MAX }),
      ],
    };
  } finally {
    await Promise.allSettled(running.map((line) => line.stop()));
  }
}
