/**
 * The tensors of a stage. llama.cpp refuses a file with a tensor it does not ask for, and one that lacks a tensor it
 * does ask for, so every tensor of the model has to be placed by a rule; one without a rule makes us refuse.
 */
import { architectureOf } from '../architectures/cuts.ts';
import { refusal, shapeOf, type ModelShape } from '../architectures/shape.ts';
import { printable } from '../faults.ts';
import { ggmlType, tensorBytes, type GgmlType } from '../ggml-types.ts';
import type { Model, TensorInfo } from '../types.ts';
import type { TensorEntry } from '../write/layout.ts';
import { EMBEDDING_TENSOR } from './facts.ts';
import { PLACEHOLDER_ROWS } from './keys.ts';

const HEAD = 'output.weight';
const FINAL_NORM = 'output_norm.weight';
/** Needed by every layer. */
const EVERYWHERE: readonly string[] = [
  'rope_freqs.weight',
  'rope_factors_long.weight',
  'rope_factors_short.weight',
];
/** Work on the last layer's output. */
const LAST_ONLY = /^(output\.|output_norm\.|cls\.|dense_)/;
const BLOCK = /^blk\.(\d{1,5})\.(.+)$/;

/** Smaller zeros are not worth a piece of their own. */
const ZEROS_IN_HEADER_BYTES_MAX = 1024 * 1024;

/** A layer's tensors are one piece; any other tensor is one by its name in the model, whatever the slice calls it. */
const copied = (tensor: TensorInfo, name = tensor.name): TensorEntry => {
  const layer = BLOCK.exec(tensor.name)?.[1];
  return {
    name,
    type: tensor.type,
    shape: tensor.shape,
    data: { from: 'file', file: tensor.file, offset: tensor.offset, bytes: tensor.bytes },
    piece: layer === undefined ? tensor.name : `layer ${Number(layer)}`,
  };
};

function zeros(name: string, type: GgmlType, shape: readonly number[]): TensorEntry {
  const bytes = tensorBytes(type, shape);
  const own = bytes > ZEROS_IN_HEADER_BYTES_MAX ? { piece: `zeros ${bytes}` } : {};
  return { name, type, shape, data: { from: 'zeros', bytes }, ...own };
}

/** What each cut makes anew, then tensors outside of the layers, then layer by layer; otherwise as in the model. */
export function inPieces(tensors: readonly TensorEntry[]): TensorEntry[] {
  const place = ({ piece }: TensorEntry): number =>
    piece === undefined ? -2 : Number(/^layer (\d+)$/.exec(piece)?.[1] ?? -1);
  return tensors.toSorted((a, b) => place(a) - place(b));
}

/** Every tensor of the model under its own name. */
export const wholeTensors = (model: Model): TensorEntry[] =>
  inPieces([...model.tensors.values()].map((tensor) => copied(tensor)));

/** Tensors of the stage with layers first <= i < end, renumbered from 0. Throws `slice.model_refused`. */
export function stageTensors(model: Model, first: number, end: number): TensorEntry[] {
  const shape = shapeOf(model);
  const last = end === shape.layers;
  const tensors = last ? lastEnds(model, shape) : placeholderEnds(model, shape);
  const layersSeen = new Set<number>();
  for (const tensor of model.tensors.values()) {
    const block = BLOCK.exec(tensor.name);
    if (block !== null) {
      const layer = Number(block[1]);
      if (layer >= shape.blocks)
        throw refusal(model, `it has a tensor of layer ${layer}, beyond its last`);
      if (layer < first || layer >= end) continue;
      layersSeen.add(layer);
      tensors.push(copied(tensor, `blk.${layer - first}.${block[2]}`));
    } else if (EVERYWHERE.includes(tensor.name)) tensors.push(copied(tensor));
    else if (LAST_ONLY.test(tensor.name)) {
      if (last && tensor.name !== HEAD && tensor.name !== FINAL_NORM) tensors.push(copied(tensor));
    } else if (tensor.name !== EMBEDDING_TENSOR)
      throw refusal(
        model,
        `no rule says which stage the tensor '${printable(tensor.name)}' belongs to`,
      );
  }
  for (let layer = first; layer < end; layer++)
    if (!layersSeen.has(layer)) throw refusal(model, `layer ${layer} has no tensors`);
  return inPieces(tensors);
}

/** Head and final norm of the last stage. */
function lastEnds(model: Model, shape: ModelShape): TensorEntry[] {
  const norm = model.tensors.get(FINAL_NORM);
  if (norm === undefined) throw refusal(model, `it has no ${FINAL_NORM}`);
  const head = model.tensors.get(HEAD);
  const row = architectureOf(model);
  if (head === undefined && row.head === 'required')
    throw refusal(model, `it has no ${HEAD}, which ${row.name} needs`);
  // The tied fallback loads the head once, as the embedding; but it knows no scale tensors beside it.
  const keepHead = head !== undefined && (row.head === 'required' || hasScales(model, head));
  if (!keepHead) return [copied(head ?? shape.embedding, EMBEDDING_TENSOR), copied(norm)];
  return [
    zeros(EMBEDDING_TENSOR, placeholderType(model, shape), [
      shape.embeddingLength,
      shape.vocabSize,
    ]),
    copied(norm),
    copied(head),
  ];
}

const hasScales = (model: Model, head: TensorInfo): boolean =>
  head.type.name === 'NVFP4' || model.tensors.has('output.scale');

/** An embedding that is never read: the smallest type whose blocks fit the row. */
function placeholderType(model: Model, shape: ModelShape): GgmlType {
  const type = ggmlType('MXFP4');
  if (shape.embeddingLength % type.blockValues !== 0)
    throw refusal(
      model,
      `its rows of ${shape.embeddingLength} are no multiple of ${type.blockValues}`,
    );
  return type;
}

/** What a stage before the last carries only so that it loads. */
function placeholderEnds(model: Model, shape: ModelShape): TensorEntry[] {
  const f32 = ggmlType('F32');
  const rows = [shape.embeddingLength, PLACEHOLDER_ROWS];
  const ones = new Float32Array(shape.embeddingLength).fill(1);
  const ends: TensorEntry[] = [
    zeros(EMBEDDING_TENSOR, f32, rows),
    {
      name: FINAL_NORM,
      type: f32,
      shape: [shape.embeddingLength],
      data: { from: 'memory', data: new Uint8Array(ones.buffer) },
    },
  ];
  if (architectureOf(model).head === 'required') ends.push(zeros(HEAD, f32, rows));
  return ends;
}
