/** Known shapes: parameters, published file sizes, names. Types of tensors are compared in quantiser.test.ts. */
import { MinikeepError } from '@minikeep/protocol';
import { allowedCuts, ARCHITECTURES } from '@minikeep/gguf';
import { describe, expect, it } from 'vitest';
import {
  knownShape,
  looksLikeShape,
  modelFacts,
  parametersOf,
  shapeModel,
  shapeNames,
  SHAPES,
  stageMemory,
} from '../src/index.ts';

/**
 * Sizes of files as people publish them, GB (10^9 bytes). R1: huggingface.co/unsloth/DeepSeek-R1-GGUF (404 GB is the
 * 377 GiB of its users' disks); others: bartowski's and ggml-org's repositories of the same name.
 */
const PUBLISHED: readonly (readonly [string, number])[] = [
  ['deepseek-r1-671b@Q2_K', 244],
  ['deepseek-r1-671b@Q3_K_M', 319],
  ['deepseek-r1-671b@Q4_K_M', 404],
  ['deepseek-r1-671b@Q5_K_M', 475],
  ['deepseek-r1-671b@Q6_K', 551],
  ['deepseek-r1-671b@Q8_0', 713],
  ['deepseek-r1-distill-qwen-14b@Q4_K_M', 8.99],
  ['deepseek-r1-distill-qwen-32b@Q4_K_M', 19.85],
  ['deepseek-r1-distill-llama-8b@Q4_K_M', 4.92],
  ['llama-3.3-70b@Q4_K_M', 42.52],
  ['qwen3-30b-a3b@Q4_K_M', 18.56],
  ['gpt-oss-20b', 12.1],
  ['gpt-oss-120b', 63.4],
  ['gemma-3-27b@Q4_K_M', 16.55],
];

describe.each(SHAPES)('$name', (shape) => {
  it('has the parameters that its makers name', () => {
    expect(Math.abs(parametersOf(shape) / 1e9 / shape.billions - 1)).toBeLessThan(0.01);
  });

  it('can be cut', () => {
    expect(ARCHITECTURES.get(shape.architecture)?.publishedLayers).toContain(shape.layers);
    const model = shapeModel({ shape, fileType: shape.only ?? 'Q4_K_M' });
    expect(modelFacts(model).layers).toHaveLength(shape.layers);
    expect(allowedCuts(model).length).toBeGreaterThan(0);
  });
});

it.each(PUBLISHED)('%s is %d GB', (name, gigabytes) => {
  const bytes = shapeModel(knownShape(name)).sizeBytes;
  expect(Math.abs(bytes / 1e9 / gigabytes - 1)).toBeLessThan(0.01);
});

it('R1 keeps one compressed row for a position, not one for each of its 128 heads', () => {
  const facts = modelFacts(shapeModel(knownShape('deepseek-r1-671b@Q4_K_M')));
  const options = { contextTokens: 4096, parallel: 2, batchRows: 512, mode: 'fast' } as const;
  const { cache } = stageMemory(facts, 0, 61, options);
  expect(cache).toBe(2 * 4096 * 61 * 576 * 2);
  // 37 B of 671 B are active.
  const active = facts.layers.reduce((sum, l) => sum + l.activeValues, facts.headValues);
  expect(active / 1e9).toBeCloseTo(36.6, 0);
});

it('knows names in any case, and says what there is', () => {
  expect(knownShape('DeepSeek-R1-671B@q4_k_m').fileType).toBe('Q4_K_M');
  expect(looksLikeShape('keeper')).toBe(false);
  expect(new Set(shapeNames()).size).toBe(SHAPES.length);
  const fault = (text: string): MinikeepError => {
    try {
      knownShape(text);
    } catch (error) {
      if (error instanceof MinikeepError) return error;
    }
    throw new Error('it was known');
  };
  expect(fault('deepseek-r2@Q4_K_M').next).toContain('deepseek-r1-671b');
  expect(fault('deepseek-r1-671b').next).toContain('deepseek-r1-671b@Q4_K_M');
  for (const text of [
    'deepseek-r1-671b@Q9',
    'deepseek-r1-671b@',
    'qwen3-8b@Q4_K_M@x',
    '@',
    '__proto__@Q4_0',
  ])
    expect(fault(text).code).toBe('model.unknown_shape');
});
