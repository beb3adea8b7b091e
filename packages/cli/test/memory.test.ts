/** A trusted process stays small while it cuts, sends, stores and passes on. */
import { readFileSync } from 'node:fs';
import { HALF_BILLION, llama, recipeFile } from '@minikeep/testkit';
import { expect, it } from 'vitest';
import { Cache, ask, deploy, start, tokens } from './cluster-helpers.ts';

const RSS_BYTES_MAX = 150 * 1024 * 1024;

/** Largest resident size so far. */
function peakBytes(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) * 1024;
}

// V8 chooses when to collect: a peak over the limit counts when it comes again.
it(
  'each trusted process needs at most 150 MiB, slices of 120 MB included',
  { retry: 2 },
  async (ctx) => {
    if (process.platform !== 'linux') ctx.skip('not here: reads /proc');
    const cache = new Cache();
    const dimensions = { ...HALF_BILLION, vocabulary: 8_192 };
    const recipe = llama(dimensions, 8, { tied: true, ropeFrequencies: false });
    const model = await recipeFile('memory', recipe, { weights: 'Q8_0', vocabulary: 'none' });
    const cluster = await start(2, cache);
    try {
      await deploy(cluster, model, { noText: true });
      await ask(cluster, tokens([5, 6, 7, 8]), { maxTokens: 4 });
      const peaks = Object.fromEntries(
        [cluster.coordinator, ...cluster.nodes].map(({ name, pid }) => [name, peakBytes(pid)]),
      );
      for (const [name, bytes] of Object.entries(peaks))
        expect(bytes, `${name} of ${JSON.stringify(peaks)}`).toBeLessThan(RSS_BYTES_MAX);
    } finally {
      await cluster.stop();
      cache.remove();
    }
  },
);
