/** Where models may be cut: the table's rules, and the window patterns against counting by hand. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  allowedCuts,
  architectureOf,
  ARCHITECTURES,
  checkCuts,
  FACT,
  layersToCut,
  MemorySource,
  openModel,
  parseHeader,
  planSlices,
  rangeRefusal,
  sliceStream,
  type Model,
  type Scalar,
} from '../src/index.ts';
import { anySlides, periodFor, slides } from '../src/architectures/windows.ts';
import { concat, key, list, makeFile, tensor, type TestTensor } from './support.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-arch-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function model(
  arch: string,
  layers: number,
  extra: Record<string, number> = {},
  options: { head?: boolean; vocabulary?: number } = {},
): Promise<Model> {
  const vocabulary = options.vocabulary ?? 64;
  const keys = [
    key('general.architecture', 'string', arch),
    key(`${arch}.block_count`, 'uint32', layers),
    key(`${arch}.embedding_length`, 'uint32', 32),
    key(`${arch}.attention.head_count`, 'uint32', 4),
    ...Object.entries(extra).map(([name, value]) => key(`${arch}.${name}`, 'uint32', value)),
  ];
  const tensors: TestTensor[] = [
    // One-byte values keep a large vocabulary small.
    tensor('token_embd.weight', [32, vocabulary], 1, 'I8'),
    tensor('output_norm.weight', [32], 2),
  ];
  if (options.head === true) tensors.push(tensor('output.weight', [32, vocabulary], 3, 'F16'));
  for (let i = 0; i < layers; i++) tensors.push(tensor(`blk.${i}.attn_norm.weight`, [32], i));
  const file = path.join(folder, `${arch}-${layers}-${Math.random()}.gguf`);
  writeFileSync(file, makeFile(keys, tensors));
  return openModel(file);
}

async function stageKeys(
  m: Model,
  cuts: number[],
  stage: number,
): Promise<Record<string, unknown>> {
  const pieces: Uint8Array[] = [];
  for await (const piece of sliceStream(m, planSlices(m, cuts)[stage]!)) pieces.push(piece);
  const { metadata, tensors } = await parseHeader(new MemorySource(concat(pieces)));
  const all: Record<string, unknown> = { tensors: tensors.map((t) => `${t.name} ${t.type.name}`) };
  for (const [name, entry] of metadata) all[name] = entry.value;
  return all;
}

test('an architecture without a row is refused with the list', async () => {
  const m = await model('mamba', 4);
  expect(() => architectureOf(m)).toThrow(/mamba.*llama.*gpt-oss/);
  expect(() => planSlices(m, [2])).toThrow(
    expect.objectContaining({ code: 'gguf.architecture_unsupported' }),
  );
});

test('window numbers: found exactly when one exists', () => {
  for (let period = 0; period <= 7; period++)
    for (let first = 0; first < 14; first++)
      for (let length = 1; length <= 14; length++) {
        const flags = Array.from({ length }, (_, i) => slides(first + i, period));
        const exists = Array.from({ length: 40 }, (_, p) => p).some((p) =>
          flags.every((flag, i) => slides(i, p) === flag),
        );
        const found = periodFor(first, first + length, period);
        expect(found !== undefined).toBe(exists);
        if (found !== undefined)
          expect(Array.from({ length }, (_, i) => slides(i, found))).toEqual(flags);
        expect(anySlides(first, first + length, period)).toBe(flags.some(Boolean));
      }
});

test('an impossible number is named with its place in the file', async () => {
  const m = await model('llama', 0);
  const { offset } = m.metadata.get('llama.block_count')!.range;
  expect(offset).toBeGreaterThan(0);
  expect(() => layersToCut(m)).toThrow(
    expect.objectContaining({
      code: 'gguf.value',
      details: expect.objectContaining({ key: 'llama.block_count', offset }) as unknown,
    }),
  );
});

test('llama may be cut anywhere', async () => {
  const m = await model('llama', 126);
  expect(allowedCuts(m)).toEqual(Array.from({ length: 125 }, (_, i) => i + 1));
  expect(() => checkCuts(m, [5, 5])).toThrow(/have to rise/);
  expect(() => checkCuts(m, [0])).toThrow(expect.objectContaining({ code: 'slice.cut_refused' }));
  expect(() => checkCuts(m, [126])).toThrow(/1 to 125/);
  expect(() => checkCuts(m, [2.5])).toThrow(/have to rise/);
});

test('gemma3: multiples of the period, and short tails elsewhere', async () => {
  const m = await model('gemma3', 26, { 'attention.sliding_window': 16 });
  // Layers 19 to 25 have their one full layer in the middle: a period of its own (5) says the same.
  expect(allowedCuts(m)).toEqual([6, 12, 18, 19, 20, 21, 24, 25]);
  expect((await stageKeys(m, [19], 1))['gemma3.attention.sliding_window_pattern']).toBe(5);
  expect(rangeRefusal(m, 1, 5)).toBeUndefined();
  expect(rangeRefusal(m, 1, 14)).toMatch(/cut at multiples of 6/);
  expect(() => checkCuts(m, [7])).toThrow(/cutting at 7 is refused.*pattern/);
  const middle = await stageKeys(m, [6, 24], 1);
  expect(middle['gemma3.attention.sliding_window_pattern']).toBe(6);
  const tail = await stageKeys(m, [24, 25], 2);
  expect(tail['gemma3.block_count']).toBe(1);
  expect([0, 6]).toContain(tail['gemma3.attention.sliding_window_pattern']);
  const full = await model('gemma3', 48, { 'attention.sliding_window': 16 });
  const none = await stageKeys(full, [47], 1);
  expect(none['gemma3.attention.sliding_window']).toBe(0);
  const plain = await model('gemma3', 32);
  expect(allowedCuts(plain)).toHaveLength(31);
});

test('gemma3 27B carries the scale that llama.cpp forgets in slices', async () => {
  const extra = { 'attention.sliding_window': 16, 'attention.key_length': 16 };
  const m = await model('gemma3', 62, extra);
  const stage = await stageKeys(m, [30], 0);
  expect(stage[FACT.attentionScaleFrom]).toBe(Math.fround(1 / 4));
  expect(stage[FACT.attentionScaleTo]).toBe(Math.fround(1 / Math.fround(Math.sqrt(8))));
  const other = await stageKeys(await model('gemma3', 48, extra), [30], 0);
  expect(other[FACT.attentionScaleFrom]).toBeUndefined();
  const long = await model('gemma3', 74, extra);
  expect(rangeRefusal(long, 12, 74)).toMatch(/exactly 62/);
  expect(rangeRefusal(m, 0, 62)).toBeUndefined();
});

test('gpt-oss: even cuts, and a slice needs a window', async () => {
  const m = await model('gpt-oss', 24, { 'attention.sliding_window': 16 }, { head: true });
  expect(allowedCuts(m)).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]);
  expect(rangeRefusal(m, 0, 1)).toBeUndefined();
  expect(rangeRefusal(m, 3, 4)).toMatch(/no layer with a sliding window/);
  expect((await stageKeys(m, [2], 0))['tensors']).toContain('output.weight F32');
  const last = (await stageKeys(m, [2], 1))['tensors'];
  expect(last).toContain('output.weight F16');
  expect(last).toContain('token_embd.weight MXFP4');
  const headless = await model('gpt-oss', 24, { 'attention.sliding_window': 16 });
  expect(() => planSlices(headless, [2])).toThrow(/output\.weight/);
});

test('deepseek2: lengths that pass for lite are refused, dense layers are counted down', async () => {
  const r1 = await model('deepseek2', 61, {
    'attention.q_lora_rank': 32,
    leading_dense_block_count: 3,
  });
  const refused = Array.from({ length: 60 }, (_, i) => i + 1).filter(
    (c) => !allowedCuts(r1).includes(c),
  );
  expect(refused).toEqual([26, 27, 34, 35]);
  expect(() => checkCuts(r1, [10, 37])).toThrow(/lite/);
  const dense = (first: number) =>
    stageKeys(r1, [first], 1).then((k) => k['deepseek2.leading_dense_block_count']);
  expect(await dense(1)).toBe(2);
  expect(await dense(3)).toBe(0);
  expect(await dense(40)).toBe(0);
  expect((await stageKeys(r1, [3], 0))['deepseek2.expert_gating_func']).toBe(1);
  const big = await model(
    'deepseek2',
    60,
    { 'attention.q_lora_rank': 32 },
    { vocabulary: 128_256 },
  );
  expect(allowedCuts(big)).not.toContain(12);
  const lite = await model('deepseek2', 27, { leading_dense_block_count: 1 });
  expect(allowedCuts(lite)).toHaveLength(26);
  expect((await stageKeys(lite, [9], 1))['deepseek2.attention.q_lora_rank']).toBe(0);
  const flash = await model(
    'deepseek2',
    47,
    { 'attention.q_lora_rank': 32 },
    { vocabulary: 154_880 },
  );
  expect((await stageKeys(flash, [9], 1))['deepseek2.expert_gating_func']).toBe(2);
});

test('MTP blocks are not layers', async () => {
  const m = await model('deepseek2', 62, { 'attention.q_lora_rank': 32, nextn_predict_layers: 1 });
  expect(layersToCut(m)).toBe(61);
  const last = await stageKeys(m, [30], 1);
  expect(last['deepseek2.block_count']).toBe(31);
  expect(last['deepseek2.nextn_predict_layers']).toBeUndefined();
  expect((last['tensors'] as string[]).filter((t) => t.startsWith('blk.'))).toHaveLength(31);
});

test('every row has an order of published counts, and is found by its name', () => {
  for (const [name, row] of ARCHITECTURES) {
    expect(row.name).toBe(name);
    expect(row.publishedLayers.length).toBeGreaterThan(0);
    expect(row.publishedLayers.toSorted((a, b) => a - b)).toEqual(row.publishedLayers);
  }
});

test('a list with one entry a layer must have one for each', async () => {
  const keys = [
    key('general.architecture', 'string', 'llama'),
    key('llama.block_count', 'uint32', 4),
    key('llama.embedding_length', 'uint32', 8),
    list('llama.attention.head_count_kv', 'uint32', [1, 2, 3] as Scalar[]),
  ];
  const tensors = [tensor('token_embd.weight', [8, 64]), tensor('output_norm.weight', [8])];
  for (let i = 0; i < 4; i++) tensors.push(tensor(`blk.${i}.attn_norm.weight`, [8]));
  const file = path.join(folder, 'short.gguf');
  writeFileSync(file, makeFile(keys, tensors));
  const m = await openModel(file);
  expect(() => planSlices(m, [2])).toThrow(/head_count_kv.*3 entries for 4/);
});
