/** Turns a model and its cuts into slices whose every byte is settled, without reading any weights. */
import { architectureOf, rangesOf } from '../architectures/cuts.ts';
import { shapeOf } from '../architectures/shape.ts';
import type { Model } from '../types.ts';
import { layOut, type KeyEntry, type Layout, type TensorEntry } from '../write/layout.ts';
import { EMBEDDING_TENSOR, SLICE_VERSION, type SliceFacts, type SliceKind } from './facts.ts';
import { embeddingKeys, stageKeys, textKeys } from './keys.ts';
import { stageTensors, wholeTensors } from './tensors.ts';
import type { SlicePlan } from './types.ts';

/**
 * One slice a stage, in order, then the embedding (for stage 0) and the text slice (vocabulary and template).
 * No cuts: the model as one stage, all keys and tensors as they are, which needs no embedding.
 * Throws `gguf.architecture_unsupported`, `slice.cut_refused`, `slice.model_refused`.
 */
export function planSlices(model: Model, cuts: readonly number[]): SlicePlan[] {
  const ranges = rangesOf(model, cuts);
  const text = textPlan(model);
  if (ranges.length === 1) return [wholePlan(model), text];
  const stages = ranges.map(([first, end], stage) => stagePlan(model, first, end, stage));
  return [...stages, embeddingPlan(model), text];
}

function factsOf(model: Model, kind: SliceKind, layers: readonly [number, number]): SliceFacts {
  const row = architectureOf(model);
  const shape = shapeOf(model);
  const scaled = row.rowScale === 'sqrt_embedding_length';
  const attentionScale = attentionScaleOf(model);
  return {
    kind,
    layers,
    layerCount: shape.layers,
    embeddingLength: shape.embeddingLength,
    vocabSize: shape.vocabSize,
    inputMode: row.input.mode,
    inputNode: row.input.node,
    rowScale: scaled ? Math.fround(Math.sqrt(shape.embeddingLength)) : 1,
    positionsPerRow: row.input.positionsPerRow,
    recurrent: false,
    ...(attentionScale !== undefined && kind === 'stage' ? { attentionScale } : {}),
  };
}

/** The scale that llama.cpp would use for the whole and does not use for a slice; f32 arithmetic as it does it. */
function attentionScaleOf(model: Model): { from: number; to: number } | undefined {
  const { attentionScale } = architectureOf(model);
  const { layers, embeddingLength, headCount, keyLength } = shapeOf(model);
  if (attentionScale?.layers !== layers || headCount === undefined || headCount === 0)
    return undefined;
  const perHead = Math.floor(embeddingLength / headCount);
  const scale = (n: number): number => Math.fround(1 / Math.fround(Math.sqrt(n)));
  const [from, to] = [scale(keyLength ?? perHead), scale(perHead)];
  return from === to ? undefined : { from, to };
}

function stagePlan(model: Model, first: number, end: number, stage: number): SlicePlan {
  const { layers } = shapeOf(model);
  const facts = factsOf(model, 'stage', [first, end]);
  const layout = layOut(stageKeys(model, first, end, facts), stageTensors(model, first, end));
  return plan('stage', stage, [first, end], layers, layout);
}

function embeddingPlan(model: Model): SlicePlan {
  const { embedding, layers } = shapeOf(model);
  const tensor: TensorEntry = {
    name: EMBEDDING_TENSOR,
    type: embedding.type,
    shape: embedding.shape,
    data: {
      from: 'file',
      file: embedding.file,
      offset: embedding.offset,
      bytes: embedding.bytes,
    },
    piece: EMBEDDING_TENSOR,
  };
  const layout = layOut(embeddingKeys(model, factsOf(model, 'embedding', [0, 0])), [tensor]);
  return plan('embedding', 0, [0, 0], layers, layout);
}

function textPlan(model: Model): SlicePlan {
  const keys = textKeys(model, factsOf(model, 'text', [0, 0]));
  return plan('text', -1, [0, 0], shapeOf(model).layers, layOut(keys, []));
}

function wholePlan(model: Model): SlicePlan {
  const { layers } = shapeOf(model);
  const keys: KeyEntry[] = [];
  for (const [key, entry] of model.metadata)
    if (!/^(split\.|general\.alignment$)/.test(key))
      keys.push({ key, type: entry.type, value: entry.range });
  return plan('stage', 0, [0, layers], layers, layOut(keys, wholeTensors(model)));
}

function plan(
  kind: SliceKind,
  stage: number,
  range: readonly [number, number],
  layers: number,
  layout: Layout,
): SlicePlan {
  const name = kind === 'stage' ? `stage-${range[0]}-${range[1]}-of-${layers}` : kind;
  return {
    kind,
    stage,
    layers: range,
    first: kind === 'stage' && range[0] === 0,
    last: kind === 'stage' && range[1] === layers,
    bytes: layout.bytes,
    tensorBytes: layout.tensorBytes,
    key: `v${SLICE_VERSION}-${name}`,
    segments: layout.segments,
    pieces: layout.pieces,
  };
}
