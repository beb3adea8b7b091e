/** The testkit's models: reproducible, of the types asked for, and llama.cpp's own idea of those types. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import koffi from 'koffi';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ARCHITECTURES, describeModel, GGML_TYPES, openModel, planSlices } from '@minikeep/gguf';
import { NAMED_MODELS, randomModelFile, REPOSITORY, TINY, WIDE } from '../src/index.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-random-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const digest = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

test('the table of tensor types is the library’s', () => {
  const lib = path.join(REPOSITORY, 'dist', 'lib');
  const name = readdirSync(lib).find((file) => /^libggml-base\.(so|dylib)$/.test(file));
  const base = koffi.load(path.join(lib, name ?? ''));
  const typeName = base.func('const char* ggml_type_name(int)') as (id: number) => string;
  const values = base.func('int64 ggml_blck_size(int)') as (id: number) => number | bigint;
  const bytes = base.func('size_t ggml_type_size(int)') as (id: number) => number | bigint;
  let known = 0;
  // 43 is the library's own count of types; above it the calls read beyond its table.
  for (let id = 0; id < 43; id++) {
    const type = GGML_TYPES.get(id);
    const blockBytes = Number(bytes(id));
    expect(type !== undefined, `type ${id}, ${typeName(id)}`).toBe(blockBytes > 0);
    if (type === undefined) continue;
    known += 1;
    expect(type.name.toLowerCase()).toBe(typeName(id).toLowerCase());
    expect([type.blockValues, type.blockBytes]).toEqual([Number(values(id)), blockBytes]);
  }
  expect(known).toBe(GGML_TYPES.size);
});

test('the same seed gives the same bytes, another one others', async () => {
  const make = (name: string, seed: number) =>
    randomModelFile('qwen3', { weights: 'Q8_0', seed, folder: path.join(folder, name) });
  const first = digest(await make('a', 1));
  expect(digest(await make('b', 1))).toBe(first);
  expect(digest(await make('c', 2))).not.toBe(first);
});

test('weights are of the type asked for', async () => {
  const types = async (weights: 'F16' | 'Q4_K' | 'mixed'): Promise<string[]> => {
    const file = await randomModelFile('llama-tied', { weights, dimensions: WIDE, folder });
    return describeModel(await openModel(file)).tensor_types.map(({ type }) => type);
  };
  expect(await types('F16')).toEqual(['F16', 'F32']);
  expect(await types('Q4_K')).toEqual(['Q4_K', 'F32']);
  expect((await types('mixed')).toSorted()).toEqual(['F16', 'F32', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_0']);
});

test('every architecture of the table has its random models at every published count', async () => {
  const covered = new Map<string, Set<number>>();
  for (const { architecture, layers } of NAMED_MODELS)
    covered.set(architecture, new Set([...(covered.get(architecture) ?? []), ...layers]));
  for (const [name, row] of ARCHITECTURES)
    expect(
      [...(covered.get(name) ?? [])].toSorted((a, b) => a - b),
      name,
    ).toEqual(row.publishedLayers);
  const file = await randomModelFile('glm4moe', { folder });
  expect(planSlices(await openModel(file), [20]).filter((p) => p.kind === 'stage')).toHaveLength(2);
});

/** A change here makes the committed conformance table one of other models. */
const RECIPES = {
  llama: '07ef74fd81d9954d',
  'llama-tied': 'c8641cf83520379c',
  'llama-rope': '567c392571f449f4',
  qwen2: 'f01e6dfb45f18f3e',
  qwen3: '26254768a9c22d36',
  qwen3moe: '65db16b32738fc0f',
  'deepseek-r1': '4a7415053f996d80',
  kimi: 'b4fd2eaa007c66b2',
  'deepseek-lite': 'd61b51291d6076b4',
  gemma3: 'bfaf6995e73efb54',
  'gpt-oss': '827364771a1d3e37',
  granite: '46e2510d1e80fb63',
  qwen2moe: '4f59e4cf804cb5ac',
  'minimax-m2': '17a86dd25cc03a4a',
  'hunyuan-moe': 'd46b500312938ac5',
  glm4moe: '43060fcc68489bcc',
};

test('recipes are those that the conformance table was made with', () => {
  const found = Object.fromEntries(
    Object.keys(RECIPES).map((name) => {
      const model = NAMED_MODELS.find((m) => m.name === name);
      const { keys, tensors } = model?.recipe(TINY, model.layers[0]) ?? { keys: [], tensors: [] };
      const hash = createHash('sha256').update(JSON.stringify(tensors));
      for (const { key, value } of keys) {
        hash.update(`${key}\n`);
        if (value instanceof Uint8Array) hash.update(value);
      }
      return [name, hash.digest('hex').slice(0, 16)];
    }),
  );
  expect(found).toEqual(RECIPES);
});
