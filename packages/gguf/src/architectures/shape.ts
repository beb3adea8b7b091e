/** The few numbers of a model that decide how it may be cut, read and checked once. */
import { MinikeepError } from '@minikeep/protocol';
import { printable } from '../faults.ts';
import { EMBEDDING_LENGTH_MAX, LAYERS_MAX } from '../limits.ts';
import { archKey, integerOf, numberOf, requiredInteger } from '../metadata.ts';
import type { Model, TensorInfo } from '../types.ts';

export interface ModelShape {
  /** `block_count`: layers and MTP blocks. */
  readonly blocks: number;
  /** Layers that take part in a split: blocks without MTP. */
  readonly layers: number;
  readonly embeddingLength: number;
  readonly vocabSize: number;
  /** Of layer 0. */
  readonly headCount: number | undefined;
  readonly keyLength: number | undefined;
  /** `attention.sliding_window`; undefined when absent. */
  readonly window: number | undefined;
  /** `attention.sliding_window_pattern` when it is one number. */
  readonly windowPeriod: number | undefined;
  /** `attention.q_lora_rank`. */
  readonly queryRank: number | undefined;
  readonly expertGatingFunction: number | undefined;
  /** token_embd.weight */
  readonly embedding: TensorInfo;
}

const shapes = new WeakMap<Model, ModelShape>();

/** Throws `gguf.value` or `slice.model_refused` when a number is absent or impossible. */
export function shapeOf(model: Model): ModelShape {
  const known = shapes.get(model);
  if (known !== undefined) return known;
  const shape = readShape(model);
  shapes.set(model, shape);
  return shape;
}

function readShape(model: Model): ModelShape {
  const key = (name: string): string => archKey(model, name);
  const blocks = requiredInteger(model, key('block_count'), 1, LAYERS_MAX);
  const mtp = integerOf(model, key('nextn_predict_layers')) ?? 0;
  if (mtp >= blocks)
    throw refusal(model, `it says that ${mtp} of its ${blocks} layers are MTP blocks`);
  const embeddingLength = requiredInteger(model, key('embedding_length'), 1, EMBEDDING_LENGTH_MAX);
  const embedding = model.tensors.get('token_embd.weight');
  const vocabSize = embedding?.shape[1];
  if (embedding === undefined || vocabSize === undefined || embedding.shape.length !== 2)
    throw refusal(model, 'it has no token_embd.weight with two dimensions');
  if (embedding.shape[0] !== embeddingLength)
    throw refusal(
      model,
      `its token_embd.weight has rows of ${embedding.shape[0]}, not ${embeddingLength}`,
    );
  return {
    blocks,
    layers: blocks - mtp,
    embeddingLength,
    vocabSize,
    headCount: firstOf(model, key('attention.head_count')),
    keyLength: integerOf(model, key('attention.key_length')),
    window: integerOf(model, key('attention.sliding_window')),
    windowPeriod: scalar(model, key('attention.sliding_window_pattern')),
    queryRank: integerOf(model, key('attention.q_lora_rank')),
    expertGatingFunction: numberOf(model, key('expert_gating_func')),
    embedding,
  };
}

function scalar(model: Model, key: string): number | undefined {
  return model.metadata.get(key)?.type === 'array' ? undefined : integerOf(model, key);
}

/** A number, or the first of a list with one a layer. */
function firstOf(model: Model, key: string): number | undefined {
  const entry = model.metadata.get(key);
  if (entry?.type !== 'array') return integerOf(model, key);
  const first = Number(entry.value?.[0]);
  return Number.isSafeInteger(first) ? first : undefined;
}

/** This file can't be cut at all, whatever the cut. */
export function refusal(model: Model, why: string): MinikeepError {
  return new MinikeepError(
    'slice.model_refused',
    `${printable(model.path, 1000)} can’t be split: ${why}`,
    {
      next: 'Run it on one node, or use a file made by llama.cpp’s own converter.',
      details: { path: model.path, architecture: model.architecture },
    },
  );
}
