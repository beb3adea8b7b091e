/**
 * Negative controls: every trap of ARCHITECTURES.md that a rule of ours guards against, sprung with the rule taken
 * away. Each has to show as a difference or a failure to load, or the conformance suite could not see it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CheckResult } from '@minikeep/engine';
import { openModel, rangeRefusal, scalarKey, type SlicePlan } from '@minikeep/gguf';
import {
  directPlatform,
  randomModelFile,
  tamper,
  withChangedRow,
  withConformance,
  type Damage,
} from '../src/index.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-traps-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** `max_logit_difference` of a comparison, or the code of the error that it ends in. */
async function outcome(
  name: string,
  layers: number,
  cuts: readonly number[],
  damage?: (plan: SlicePlan) => Damage | undefined,
): Promise<number | string> {
  const file = await randomModelFile(name, { layers, folder });
  const onSlice = async (plan: SlicePlan, slice: string): Promise<void> => {
    const done = damage?.(plan);
    if (done !== undefined) await tamper(slice, done);
  };
  return withConformance(file, { platform: directPlatform(), onSlice }, (_model, compare) =>
    compare(cuts).then(
      (result: CheckResult) => (result.identical ? 0 : result.max_logit_difference),
      (error: { code: string }) => error.code,
    ),
  );
}

/** The reason why a range is refused, with all rules in place. */
async function refusal(name: string, layers: number, range: readonly [number, number]) {
  const model = await openModel(await randomModelFile(name, { layers, folder }));
  return rangeRefusal(model, ...range);
}

test('the tampering itself changes nothing', async () => {
  expect(await outcome('gemma3', 18, [6], () => ({}))).toBe(0);
});

test.each([
  ['gemma3', 'gemma3', 18, 9, 0.1],
  ['gpt-oss', 'gpt-oss', 24, 9, 0.1],
  ['olmo3', 'olmo2', 32, 10, 0.1],
  ['cohere2', 'cohere2', 32, 10, 0.1],
  ['gemma2', 'gemma2', 26, 9, 0.1],
])('%s started out of phase with its windows', async (name, row, layers, cut, least) => {
  expect(await refusal(name, layers, [cut, layers])).toMatch(/pattern/);
  const difference = await withChangedRow(row, { window: undefined }, () =>
    outcome(name, layers, [cut]),
  );
  expect(difference).toBeGreaterThan(least);
});

test('smollm3 started between its layers without rope', async () => {
  expect(await refusal('smollm3', 36, [9, 36])).toMatch(/multiple of 4/);
  const difference = await withChangedRow('smollm3', { startMultiple: undefined }, () =>
    outcome('smollm3', 36, [9]),
  );
  expect(difference).toBeGreaterThan(0.01);
});

test('exaone4 with 64 layers, whose count switches windows on', async () => {
  expect(await refusal('exaone4', 64, [0, 32])).toMatch(/count of 64/);
  const difference = await withChangedRow('exaone4', { refuse: undefined }, () =>
    outcome('exaone4', 64, [32]),
  );
  expect(difference).toBeGreaterThan(0.1);
});

test.each([
  ['gemma3', 62, 30],
  ['gemma2', 46, 22],
])('%s 27B without its attention scale', async (name, layers, cut) => {
  const difference = await withChangedRow(name, { attentionScale: undefined }, () =>
    outcome(name, layers, [cut]),
  );
  expect(difference).toBeGreaterThan(0.1);
});

test('rows of gemma3 handed in without their scale', async () => {
  const difference = await withChangedRow('gemma3', { rowScale: 'none' }, () =>
    outcome('gemma3', 18, [6]),
  );
  expect(difference).toBeGreaterThan(0.1);
});

test('gemma2 fed by embd, which its graph scales again', async () => {
  const input = { mode: 'embd', node: 'embd', positionsPerRow: 1 } as const;
  const difference = await withChangedRow('gemma2', { input }, () => outcome('gemma2', 26, [8]));
  expect(difference).toBeGreaterThan(0.1);
});

test('granite’s embedding scale kept in a later slice', async () => {
  const difference = await withChangedRow('granite', { firstOnlyKeys: [] }, () =>
    outcome('granite', 32, [16]),
  );
  expect(difference).toBeGreaterThan(0.001);
});

test('leading dense layers not counted down', async () => {
  const dense = scalarKey('deepseek2.leading_dense_block_count', 'uint32', 3);
  const damage = (plan: SlicePlan) => (plan.stage === 1 ? { keys: [dense] } : undefined);
  expect(await outcome('deepseek-r1', 61, [2], damage)).toMatch(/^engine\./);
});

test('a deepseek2 slice of 27 layers, taken for a lite model', async () => {
  expect(await refusal('deepseek-r1', 61, [0, 27])).toMatch(/lite/);
  const failure = await withChangedRow('deepseek2', { refuse: undefined }, () =>
    outcome('deepseek-r1', 61, [27]),
  );
  expect(failure).toMatch(/^engine\./);
});

test('a lite deepseek2 slice that does not say it has no low-rank queries', async () => {
  const failure = await withChangedRow('deepseek2', { extraKeys: undefined }, () =>
    outcome('deepseek-lite', 27, [9]),
  );
  expect(failure).toMatch(/^engine\./);
});

test('a head that the loader insists on, left to the fallback', async () => {
  const failure = await withChangedRow('gpt-oss', { head: 'fallback' }, () =>
    outcome('gpt-oss', 24, [8]),
  );
  expect(failure).toMatch(/^engine\./);
});

test('command-r with the norms that only 64 layers have', async () => {
  expect(await refusal('command-r', 64, [0, 32])).toMatch(/64 or more/);
  const failure = await withChangedRow('command-r', { refuse: undefined }, () =>
    outcome('command-r', 64, [32]),
  );
  expect(failure).toMatch(/^engine\./);
});

test('rope factors missing from a later slice', async () => {
  const without: Damage = { removeTensor: ({ name }) => name === 'rope_freqs.weight' };
  const damage = (plan: SlicePlan) => (plan.stage === 1 ? without : undefined);
  expect(await outcome('llama-rope', 16, [8], damage)).toBeGreaterThan(0.01);
});

test('glm4 fed by embd, which ends the process', async () => {
  const input = { mode: 'embd', node: 'embd', positionsPerRow: 1 } as const;
  const failure = await withChangedRow('glm4', { input }, () => outcome('glm4', 40, [20]));
  expect(failure).toMatch(/^engine\./);
});
