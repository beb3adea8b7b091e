/** The streaming slicer against its dumb twin, and what it promises about sizes, memory and changed files. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  FACT,
  MemorySource,
  openModel,
  parseHeader,
  planSlices,
  sliceStream,
  type Model,
  type Scalar,
  type SlicePlan,
} from '../src/index.ts';
import { COPY_BYTES } from '../src/limits.ts';
import {
  concat,
  key,
  makeFile,
  repeats,
  seed,
  tensor,
  tinyLlama,
  type TestTensor,
} from './support.ts';
import { twinStage, type Expected } from './twin.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-slice-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function openBytes(bytes: Uint8Array, name = 'm.gguf'): Promise<Model> {
  const file = path.join(folder, name);
  writeFileSync(file, bytes);
  return openModel(file);
}

async function bytesOf(model: Model, plan: SlicePlan): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of sliceStream(model, plan)) pieces.push(piece);
  return concat(pieces);
}

/** A slice's content as the twin describes it. */
async function contentOf(bytes: Uint8Array): Promise<Expected & { facts: Record<string, Scalar> }> {
  const header = await parseHeader(new MemorySource(bytes));
  const keys: Record<string, Scalar | readonly Scalar[]> = {};
  const facts: Record<string, Scalar> = {};
  for (const [name, entry] of header.metadata)
    if (name.startsWith('minikeep.')) facts[name] = entry.value as Scalar;
    else keys[name] = entry.value as Scalar | readonly Scalar[];
  const tensors: Expected['tensors'] = {};
  for (const t of header.tensors)
    tensors[t.name] = {
      shape: t.shape,
      type: t.type.name,
      data: bytes.slice(t.offset, t.offset + t.bytes),
    };
  return { keys, tensors, facts };
}

async function metaOf(bytes: Uint8Array): Promise<Map<string, Scalar | readonly Scalar[]>> {
  const header = await parseHeader(new MemorySource(bytes));
  return new Map(
    [...header.metadata].map(([name, { value }]) => [name, value as Scalar | readonly Scalar[]]),
  );
}

const cutsOf = (layers: number) =>
  fc.uniqueArray(fc.integer({ min: 1, max: layers - 1 }), { minLength: 1, maxLength: 5 });

test('slices equal the dumb twin’s, for random models and cuts', { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc
        .integer({ min: 2, max: 9 })
        .chain((layers) => fc.tuple(fc.constant(layers), cutsOf(layers))),
      fc.record({ tied: fc.boolean(), bias: fc.boolean(), mtp: fc.boolean(), shuffle: fc.nat() }),
      async ([layers, unsorted], { tied, bias, mtp, shuffle }) => {
        const blocks = mtp ? layers + 1 : layers;
        const { keys, tensors } = tinyLlama(blocks);
        if (mtp) keys.push(key('llama.nextn_predict_layers', 'uint32', 1));
        const kept = tensors.filter(({ name }) => !(tied && name === 'output.weight'));
        if (bias) kept.push(tensor('output.bias', [40], 99));
        const turned = shuffle % kept.length;
        const ordered: TestTensor[] = [...kept.slice(turned), ...kept.slice(0, turned)];
        const file = makeFile(keys, ordered);
        const model = await openBytes(file);
        const meta = await metaOf(file);
        const cuts = unsorted.toSorted((a, b) => a - b);
        for (const plan of planSlices(model, cuts)) {
          const bytes = await bytesOf(model, plan);
          expect(bytes.length).toBe(plan.bytes);
          const { keys: got, tensors: data, facts } = await contentOf(bytes);
          expect(facts[FACT.kind]).toBe(plan.kind);
          if (plan.kind !== 'stage') continue;
          const [first, end] = plan.layers;
          const expected = twinStage(meta, ordered, first, end, layers);
          expect(got).toEqual(expected.keys);
          expect(data).toEqual(expected.tensors);
          expect(facts).toMatchObject({
            [FACT.layerFirst]: first,
            [FACT.layerEnd]: end,
            [FACT.layerCount]: layers,
            [FACT.embeddingLength]: 8,
            [FACT.vocabSize]: 40,
            [FACT.inputMode]: 'embd',
          });
        }
      },
    ),
    { numRuns: repeats(60, 5000), seed: seed('slices') },
  );
});

test('embedding and text slices hold what they are for and nothing else', async () => {
  const { keys, tensors } = tinyLlama(4);
  const model = await openBytes(makeFile(keys, tensors));
  const plans = planSlices(model, [2]);
  expect(plans.map(({ kind, stage, first, last }) => ({ kind, stage, first, last }))).toEqual([
    { kind: 'stage', stage: 0, first: true, last: false },
    { kind: 'stage', stage: 1, first: false, last: true },
    { kind: 'embedding', stage: 0, first: false, last: false },
    { kind: 'text', stage: -1, first: false, last: false },
  ]);
  const embedding = await contentOf(await bytesOf(model, plans[2]!));
  expect(Object.keys(embedding.tensors)).toEqual(['token_embd.weight']);
  expect(embedding.tensors['token_embd.weight']?.data).toEqual(tensors[0]?.data);
  expect(embedding.facts[FACT.rowScale]).toBe(1);
  const text = await contentOf(await bytesOf(model, plans[3]!));
  expect(text.tensors).toEqual({});
  expect(text.keys['tokenizer.chat_template']).toBe('{{ messages }}');
  expect(text.keys['tokenizer.ggml.tokens']).toHaveLength(40);
});

test('the same model and cuts give the same bytes and names', async () => {
  const { keys, tensors } = tinyLlama(5);
  const file = makeFile(keys, tensors);
  const digest = async (name: string): Promise<string[]> => {
    const model = await openBytes(file, name);
    const all: string[] = [];
    for (const plan of planSlices(model, [1, 3])) {
      const hash = createHash('sha256').update(await bytesOf(model, plan));
      all.push(`${plan.key} ${hash.digest('hex')}`);
    }
    return all;
  };
  expect(await digest('one.gguf')).toEqual(await digest('two.gguf'));
});

test('no cut: one file as it is, a split one joined', async () => {
  const { keys, tensors } = tinyLlama(2);
  const file = makeFile(keys, tensors);
  const single = await openBytes(file);
  expect(await bytesOf(single, planSlices(single, [])[0]!)).toEqual(file);
  const part = (i: number) => [key('split.no', 'uint16', i), key('split.count', 'uint16', 2)];
  const second = path.join(folder, 's-00002-of-00002.gguf');
  writeFileSync(second, makeFile(part(1), tensors.slice(4)));
  const split = await openBytes(
    makeFile([...keys, ...part(0)], tensors.slice(0, 4)),
    's-00001-of-00002.gguf',
  );
  const joined = await bytesOf(split, planSlices(split, [])[0]!);
  expect(await contentOf(joined)).toEqual(await contentOf(file));
});

test('pieces stay small, however large the tensors', async () => {
  const { keys, tensors } = tinyLlama(2);
  const name = path.join(folder, 'large.gguf');
  writeFileSync(name, makeFile(keys, tensors));
  // A row of 8 and 40 entries can't be large; the whole file as one stage can: 300 MB, all zeros.
  truncateSync(name, 300 * 1024 * 1024);
  const model = await openModel(name);
  const [plan] = planSlices(model, []);
  const before = process.memoryUsage().rss;
  let peak = 0;
  let bytes = 0;
  for await (const piece of sliceStream(model, plan!)) {
    expect(piece.length).toBeLessThanOrEqual(COPY_BYTES);
    bytes += piece.length;
    peak = Math.max(peak, process.memoryUsage().rss - before);
  }
  expect(bytes).toBe(plan!.bytes);
  // 64 MiB of the file at most; the runtime frees the pieces it has handed on when it gets to it.
  expect(peak).toBeLessThan(200 * 1024 * 1024);
});

test('a file that changes under the slicer, and an abort', async () => {
  const { keys, tensors } = tinyLlama(4);
  const model = await openBytes(makeFile(keys, tensors), 'changing.gguf');
  const plan = planSlices(model, [2])[1]!;
  await expect(async () => {
    for await (const _ of sliceStream(model, plan, AbortSignal.abort())) continue;
  }).rejects.toThrow(/abort/i);
  const stream = sliceStream(model, plan)[Symbol.asyncIterator]();
  for (let i = 0; i < 3; i++) await stream.next();
  utimesSync(model.path, 1, 1);
  await expect(async () => {
    for (;;) if ((await stream.next()).done === true) return;
  }).rejects.toMatchObject({ code: 'gguf.changed' });
  await expect(bytesOf(model, plan)).rejects.toMatchObject({ code: 'gguf.changed' });
});

test('what no rule covers is refused', async () => {
  const { keys, tensors } = tinyLlama(4);
  const refused = async (name: string, k: typeof keys, t: TestTensor[]): Promise<string> => {
    const model = await openBytes(makeFile(k, t), `${name}.gguf`);
    try {
      planSlices(model, [2]);
      return 'planned';
    } catch (thrown) {
      return `${(thrown as { code: string }).code}: ${(thrown as Error).message}`;
    }
  };
  const without = (name: string) => tensors.filter((t) => t.name !== name);
  const stranger = await refused('a', keys, [...tensors, tensor('stranger.weight', [8])]);
  expect(stranger).toMatch(/slice\.model_refused.*stranger\.weight/);
  expect(await refused('b', keys, [...tensors, tensor('blk.4.x.weight', [8])])).toMatch(/layer 4/);
  expect(await refused('c', keys, without('output_norm.weight'))).toMatch(/output_norm/);
  expect(await refused('d', keys, without('token_embd.weight'))).toMatch(/token_embd/);
  const gap = tensors.filter(({ name }) => !name.startsWith('blk.3.'));
  expect(await refused('e', keys, gap)).toMatch(/layer 3 has no tensors/);
  const short = keys.filter((k) => k.key !== 'llama.feed_forward_length');
  expect(
    await refused('f', [...short, key('llama.nextn_predict_layers', 'uint32', 4)], tensors),
  ).toMatch(/MTP/);
});
