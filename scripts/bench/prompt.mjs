// A prompt in chunks that follow each other down the pipeline: two nodes, every process of each held to a core of its
// own, beside the whole model in one engine on one core. Ideal would be twice as fast.
import { sandboxPlatform } from '../../packages/containment/src/index.ts';
import { claim, pairedRatio, spread } from './figures.mjs';
import { engineLine, filesOf, nodesLine } from './lines.mjs';
import { watchNoise } from './noise.mjs';
import { familyOf, holdToCore } from './processes.mjs';

/** What the coordinator makes of a prompt of 2,048 tokens at two stages. */
const CHUNK = 64;
const SHARE_OF_TWICE_MIN = 0.85;
const STAGES = 2;

export async function promptBench({ model, folder, rounds, tokens, log }) {
  const context = {
    n_ctx: tokens + 64,
    n_batch: CHUNK,
    n_seq_max: 1,
    mode: 'exact',
    threads: 1,
    gpu: false,
  };
  const running = [];
  try {
    log('loading for the prompt');
    const [whole] = await filesOf(model, 1, folder);
    const before = new Set(familyOf(process.pid));
    const one = await engineLine([whole], sandboxPlatform(), context);
    running.push(one);
    const engine = familyOf(process.pid).filter((pid) => !before.has(pid));
    const two = await nodesLine(model, STAGES, context, folder);
    running.push(two);
    for (const [core, { pid }] of two.cluster.nodes.entries()) holdToCore(familyOf(pid), core);
    const seconds = { whole: [], nodes: [] };
    const noise = watchNoise();
    for (let round = 0; round < rounds; round++) {
      log(`prompt: round ${round + 1} of ${rounds}`);
      // The two cores may differ in speed: the whole model tries each in turn.
      holdToCore(engine, round % STAGES);
      seconds.whole.push(await one.prompt(tokens, CHUNK));
      seconds.nodes.push(await two.prompt(tokens));
      noise.tick();
    }
    const speedup = pairedRatio(seconds.whole, seconds.nodes);
    return {
      tokens,
      noise: noise.report(),
      seconds_whole_on_one_core: spread(seconds.whole),
      seconds_two_nodes_on_two: spread(seconds.nodes),
      speedup,
      claims: [
        claim('two stages, of twice the whole on one core', speedup.median / STAGES, {
          atLeast: SHARE_OF_TWICE_MIN,
          interval: speedup.interval.map((value) => value / STAGES),
        }),
      ],
    };
  } finally {
    await Promise.allSettled(running.map((line) => line.stop()));
  }
}
