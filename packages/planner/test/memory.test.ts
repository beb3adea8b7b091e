/** Predicted memory against what engines allocate, and against what llama.cpp says of models of real dimensions. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { allowedCuts, ggmlType, openModel } from '@minikeep/gguf';
import {
  NAMED_MODELS,
  noVocabularyKeys,
  reservedMemory,
  stagesMemory,
  TINY,
  writeHeaderOnly,
  type NamedModel,
} from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  modelFacts,
  shapeModel,
  SHAPES,
  stageMemory,
  type PlanOptions,
  type StageMemory,
} from '../src/index.ts';
import { headerFile } from './header-file.ts';

const LONG = process.env['MINIKEEP_LONG'] === '1';
/** The default; the other one with `MINIKEEP_LONG=1`. */
const MODES = LONG ? (['exact', 'fast'] as const) : (['exact'] as const);
/** [tokens, conversations] */
const CONTEXTS = LONG
  ? ([
      [4096, 1],
      [16_384, 4],
    ] as const)
  : ([[8192, 2]] as const);

/** One of each architecture; every variant with `MINIKEEP_LONG=1`. */
const MODELS = NAMED_MODELS.filter(
  (model, i) =>
    LONG || NAMED_MODELS.findIndex(({ architecture }) => architecture === model.architecture) === i,
);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-memory-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const settings = (options: PlanOptions): Parameters<typeof reservedMemory>[1] => ({
  n_ctx: options.contextTokens,
  n_seq_max: options.parallel,
  n_batch: options.batchRows,
  threads: 1,
  mode: options.mode,
  gpu: false,
});

const sum = ({ weights, cache, compute }: StageMemory): number => weights + cache + compute;

/** The model of the suite with zeros for weights: made in no time. */
async function emptyModel(named: NamedModel): Promise<string> {
  const file = path.join(folder, `${named.name}.gguf`);
  const vocabulary = named.vocabulary ?? TINY.vocabulary;
  const { keys, tensors } = named.recipe({ ...TINY, vocabulary }, named.layers[0]);
  await writeHeaderOnly(
    file,
    [...keys, ...noVocabularyKeys()],
    tensors.map(({ name, shape }) => ({ name, shape, type: ggmlType('F32') })),
  );
  return file;
}

/** How far a prediction is off, as a part of what is really there. */
const off = (predicted: number, real: number): number => Math.abs(predicted / real - 1);

describe.each(MODELS)('an engine allocates what was predicted: $name', (named) => {
  it.each(MODES)('%s', async (mode) => {
    const model = await openModel(await emptyModel(named));
    const facts = modelFacts(model);
    const cuts = allowedCuts(model);
    const middle = cuts[Math.floor(cuts.length / 2)] ?? 0;
    const options: PlanOptions = { contextTokens: 1000, parallel: 2, batchRows: 128, mode };
    const memory = await stagesMemory(model, [middle], settings(options));
    expect(memory).toHaveLength(2);
    for (const [i, real] of memory.entries()) {
      const [first, end] = i === 0 ? [0, middle] : [middle, facts.layers.length];
      const predicted = stageMemory(facts, first, end, options);
      const all = real.weights_bytes + real.kv_bytes + real.compute_bytes;
      expect(off(sum(predicted), all)).toBeLessThan(0.05);
      expect(off(predicted.weights, real.weights_bytes)).toBeLessThan(0.02);
      expect(off(predicted.cache, real.kv_bytes)).toBeLessThan(0.01);
      // With rows of 96 numbers every rounding shows; at real dimensions see below.
      expect(off(predicted.compute, real.compute_bytes)).toBeLessThan(
        mode === 'exact' ? 0.05 : 0.3,
      );
    }
  });
});

describe.each(SHAPES)('llama.cpp reserves what was predicted: $name', (shape) => {
  it.each(MODES)('%s', async (mode) => {
    const fileType = shape.only ?? 'Q4_K_M';
    const file = await headerFile(folder, shape, fileType);
    const facts = modelFacts(shapeModel({ shape, fileType }));
    for (const [contextTokens, parallel] of CONTEXTS) {
      const options: PlanOptions = { contextTokens, parallel, batchRows: 512, mode };
      const real = reservedMemory(file, settings(options));
      const predicted = stageMemory(facts, 0, facts.layers.length, options);
      const all = predicted.weights + real.kv_bytes + real.compute_bytes;
      expect(off(sum(predicted), all)).toBeLessThan(0.01);
      expect(off(predicted.compute, real.compute_bytes)).toBeLessThan(0.07);
      // llama.cpp keeps a cache for MTP blocks too, which a slice doesn't have.
      const blocks = (shape.layers + (shape.mtpBlocks ?? 0)) / shape.layers;
      expect(off(predicted.cache * blocks, real.kv_bytes)).toBeLessThan(0.01);
    }
  });
});
