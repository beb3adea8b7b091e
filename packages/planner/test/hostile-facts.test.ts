/** A model file whose numbers were made to mislead the planner, or to keep it busy. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  arrayKey,
  ggmlType,
  openModel,
  scalarKey,
  writeGguf,
  type KeyEntry,
  type Model,
} from '@minikeep/gguf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { modelFacts, plan, type PlanOptions } from '../src/index.ts';

const OPTIONS: PlanOptions = { contextTokens: 1024, parallel: 1, batchRows: 64, mode: 'exact' };
const NODES = [0, 1, 2].map((i) => ({ name: `n${i}`, budgetBytes: 1e12 }));

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-planner-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Only a header: the planner reads no weights. */
async function header(
  architecture: string,
  layers: number,
  keys: readonly KeyEntry[],
): Promise<Model> {
  const file = path.join(folder, 'model.gguf');
  await writeGguf(
    file,
    [
      scalarKey('general.architecture', 'string', architecture),
      scalarKey(`${architecture}.block_count`, 'uint32', layers),
      scalarKey(`${architecture}.embedding_length`, 'uint32', 8),
      ...keys,
    ],
    [
      {
        name: 'token_embd.weight',
        type: ggmlType('F32'),
        shape: [8, 40],
        data: () => [new Uint8Array(1280)],
      },
    ],
  );
  return openModel(file);
}

it('numbers of layers that are none, or below zero, are a fault of the file', async () => {
  for (const list of [
    arrayKey('llama.feed_forward_length', 'string', ['x', 'y']),
    arrayKey('llama.attention.head_count', 'int32', [-4, -4]),
    arrayKey('llama.attention.head_count_kv', 'float32', [0.5, 2]),
  ]) {
    const model = await header('llama', 2, [list]);
    expect(() => modelFacts(model)).toThrow(expect.objectContaining({ code: 'gguf.value' }));
  }
});

// Minutes, before the window's number was found in one look and ranges were asked about last.
it(
  'a thousand layers with a long window pattern are placed in seconds',
  { timeout: 180_000 },
  async () => {
    for (const period of [6, 400]) {
      const model = await header('gemma3', 1024, [
        scalarKey('gemma3.attention.sliding_window', 'uint32', 16),
        scalarKey('gemma3.attention.sliding_window_pattern', 'uint32', period),
      ]);
      const began = performance.now();
      expect(plan(modelFacts(model), NODES, OPTIONS).stages).toHaveLength(3);
      expect(performance.now() - began).toBeLessThan(60_000);
    }
  },
);
