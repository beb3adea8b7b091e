/**
 * Split and whole compute the same bits: every architecture at its largest published count, in F32 or in one quantised
 * type. The full suite (every count, every allowed cut, all types) is `npm run conformance`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sandboxPlatform } from '@minikeep/containment';
import {
  directPlatform,
  holds,
  NAMED_MODELS,
  randomModelFile,
  threeDivisions,
  withConformance,
} from '../src/index.ts';

const LONG = process.env['MINIKEEP_LONG'] === '1';
/** CI has two cores: which type each of the others is tried in changes from run to run. */
const seed = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 1_000);
process.stderr.write(`conformance: MINIKEEP_SEED=${seed}\n`);

/** Two divisions in the quantised type (all three in the long run) and one in F32; the others get one in one of them. */
const THOROUGH = [
  'llama',
  'llama-tied',
  'llama-rope',
  'qwen2',
  'qwen3',
  'qwen3moe',
  'deepseek-r1',
  'kimi',
  'deepseek-lite',
  'gemma3',
  'gpt-oss',
];
/** Its embedding alone is 50 MB; the full suite has it. */
const TOO_LARGE = ['kanana'];

/** The models of all tests are a gigabyte together: each is gone when its test is done. */
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-models-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const tried = NAMED_MODELS.filter((m) => !TOO_LARGE.includes(m.name));
for (const [index, { name, layers }] of tried.entries())
  for (const weights of ['F32', 'Q8_0'] as const) {
    const thorough = THOROUGH.includes(name);
    const drawn = ((seed >> (index % 9)) & 1) === (weights === 'F32' ? 1 : 0);
    if (!LONG && !thorough && !drawn) continue;
    test(`${name}, ${layers.at(-1)} layers, ${weights}`, async () => {
      const file = await randomModelFile(name, { layers: layers.at(-1) ?? 0, weights, folder });
      // In the sandbox where the models are the ones that most people run; without it the suite takes half the time.
      const platform = thorough && weights === 'Q8_0' ? sandboxPlatform() : directPlatform();
      await withConformance(file, { platform }, async (model, compare) => {
        const all = threeDivisions(model);
        expect(all).toHaveLength(3);
        const one = weights === 'F32' ? all.slice(2) : all.slice(1, 2);
        // Two of three: which one is left out changes from run to run.
        const two = all.filter((_, i) => i !== seed % 3);
        for (const cuts of thorough ? (LONG ? all : weights === 'Q8_0' ? two : one) : one) {
          const result = await compare(cuts);
          expect(result.max_logit_difference, `cut at ${cuts.join()}`).toBe(0);
          expect(holds(result)).toBe(true);
        }
      });
    });
  }

for (const name of ['llama-rope', 'gemma3', 'gpt-oss', 'deepseek-lite', 'glm4'])
  test(`${name} in fast mode: flash attention and one cache for all sequences`, async () => {
    const file = await randomModelFile(name, { weights: 'Q8_0', folder });
    const options = { platform: directPlatform(), mode: 'fast' } as const;
    await withConformance(file, options, async (model, compare) => {
      for (const cuts of threeDivisions(model).slice(1)) {
        const result = await compare(cuts);
        expect(result.max_logit_difference, `cut at ${cuts.join()}`).toBe(0);
        expect(holds(result)).toBe(true);
      }
    });
  });
