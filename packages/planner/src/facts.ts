/** From a checked GGUF file to what the planner needs: bytes per layer, cache per position, where cuts may be. */
import {
  allowedCuts,
  layersToCut,
  rangeRefusal,
  shapeOf,
  slides,
  windowPeriodOf,
  type Model,
  type TensorInfo,
} from '@minikeep/gguf';
import path from 'node:path';
import { graphOf } from './graph.ts';
import { keyValueWidths, numberOf, numbersOf } from './numbers.ts';
import type { CacheFacts, LayerFacts, ModelFacts } from './types.ts';

/** Tensors whose rows belong to experts, of which a token uses a few. */
const EXPERT_TENSOR = /_exps\.(weight|bias|scale)$/;
const LAYER_TENSOR = /^blk\.(\d+)\./;
/** Only the last slice carries these. */
const HEAD_TENSOR = /^(output|cls|dense_)/;
const EMBEDDING_TENSOR = 'token_embd.weight';

/** Throws what the model's architecture or its numbers deserve: `gguf.architecture_unsupported`, `gguf.value` … */
export function modelFacts(model: Model): ModelFacts {
  const count = layersToCut(model);
  const weights = weightsByLayer(model, count);
  const shape = shapeOf(model);
  const period = windowPeriodOf(model);
  const embeddingBytes = shape.embedding.bytes;
  let headBytes = 0;
  let headValues = 0;
  let sharedBytes = 0;
  for (const tensor of model.tensors.values()) {
    if (LAYER_TENSOR.test(tensor.name) || tensor.name === EMBEDDING_TENSOR) continue;
    if (HEAD_TENSOR.test(tensor.name)) {
      headBytes += tensor.bytes;
      headValues += valuesOf(tensor);
    } else sharedBytes += tensor.bytes;
  }
  // Tied: the embedding matrix is the output matrix too, and the last slice has its own copy.
  if (!model.tensors.has('output.weight')) {
    headBytes += embeddingBytes;
    headValues += valuesOf(shape.embedding);
  }
  return {
    name: path.basename(model.path),
    architecture: model.architecture,
    layers: weights.map((w, i) => ({
      ...w,
      cache: cacheOf(model, i, period !== undefined && slides(i, period)),
    })),
    embeddingBytes,
    headBytes,
    headValues,
    sharedBytes,
    embeddingLength: shape.embeddingLength,
    vocabSize: shape.vocabSize,
    graph: graphOf(model, count, period),
    contextLength: numberOf(model, 'context_length') ?? 0,
    allowedCuts: allowedCuts(model),
    rangeRefusal: (first, end) => rangeRefusal(model, first, end),
  };
}

type Weights = Pick<LayerFacts, 'weightBytes' | 'activeBytes' | 'activeValues'>;

function weightsByLayer(model: Model, count: number): Weights[] {
  const experts = numberOf(model, 'expert_count') ?? 0;
  const used = numbersOf(model, 'expert_used_count', count);
  const layers = Array.from({ length: count }, () => ({
    weightBytes: 0,
    activeBytes: 0,
    activeValues: 0,
  }));
  for (const tensor of model.tensors.values()) {
    const index = Number(LAYER_TENSOR.exec(tensor.name)?.[1] ?? -1);
    const layer = layers[index];
    // Blocks past the last layer predict further tokens (MTP); a split leaves them out.
    if (layer === undefined) continue;
    layer.weightBytes += tensor.bytes;
    const share = activeShare(tensor, experts, used[index] ?? 0);
    layer.activeBytes += tensor.bytes * share;
    layer.activeValues += valuesOf(tensor) * share;
  }
  return layers;
}

/** The part of a tensor that one token meets. */
function activeShare(tensor: TensorInfo, experts: number, used: number): number {
  if (experts === 0 || used === 0 || !EXPERT_TENSOR.test(tensor.name)) return 1;
  return Math.min(1, used / experts);
}

const valuesOf = (tensor: TensorInfo): number =>
  tensor.shape.reduce((product, n) => product * n, 1);

/** What llama.cpp keeps for one position of one layer (or, for recurrent layers, for one sequence). */
function cacheOf(model: Model, layer: number, sliding: boolean): CacheFacts {
  if (isRecurrent(model, layer)) return { kind: 'recurrent', bytesPerSequence: stateBytes(model) };
  const { headsKv, keys, values } = keyValueWidths(model, layer, sliding);
  // MLA keeps one compressed row of keys for all heads; the values are a part of it.
  const compressed = numberOf(model, 'attention.key_length_mla') !== undefined;
  const indexer = numberOf(model, 'attention.indexer.key_length') ?? 0;
  const valuesPerPosition = (compressed ? headsKv * keys : headsKv * (keys + values)) + indexer;
  const window = sliding ? numberOf(model, 'attention.sliding_window') : undefined;
  return { kind: 'attention', valuesPerPosition, ...(window === undefined ? {} : { window }) };
}

/** Hybrids say it with tensors: a recurrent layer has a state-space part and no attention keys. */
function isRecurrent(model: Model, layer: number): boolean {
  return (
    numberOf(model, 'ssm.state_size') !== undefined &&
    !model.tensors.has(`blk.${layer}.attn_k.weight`)
  );
}

/** Convolution and state of a gated delta-net layer, F32, for one sequence. */
function stateBytes(model: Model): number {
  const inner = numberOf(model, 'ssm.inner_size') ?? 0;
  const state = numberOf(model, 'ssm.state_size') ?? 0;
  const groups = numberOf(model, 'ssm.group_count') ?? 0;
  const kernel = numberOf(model, 'ssm.conv_kernel') ?? 1;
  return 4 * ((kernel - 1) * (inner + 2 * groups * state) + inner * state);
}
