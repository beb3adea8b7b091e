/**
 * How much memory a range of layers takes in an engine: weights, KV cache, compute buffers, the process itself.
 * Weights and cache are exact (they follow from the file and from how llama.cpp lays the cache out); compute
 * buffers are an estimate from the largest tensors of a graph.
 */
import type { LayerFacts, ModelFacts, PlanOptions, StageMemory } from './types.ts';

/** llama.cpp rounds a cache's positions up to a multiple of this. */
export const CACHE_PADDING = 256;
/** Keys and values are kept as F16. */
const CACHE_VALUE_BYTES = 2;
/** Node, llama.cpp's libraries, vocabulary: measured 90 to 120 MiB. */
export const ENGINE_PROCESS_BYTES = 128 * 1024 * 1024;
/** The text engine beside the first stage. */
export const TEXT_PROCESS_BYTES = 128 * 1024 * 1024;

const padded = (positions: number): number => Math.ceil(positions / CACHE_PADDING) * CACHE_PADDING;

/** Bytes of one layer's cache for all sequences. */
export function layerCacheBytes(layer: LayerFacts, options: PlanOptions): number {
  if (layer.cache.kind === 'recurrent') return layer.cache.bytesPerSequence * options.parallel;
  const { window, valuesPerPosition } = layer.cache;
  const whole = padded(options.contextTokens);
  // A sliding layer keeps its window and one batch that may be on its way in, for each sequence. Not in exact mode:
  // a small cache is a ring whose order, and so the order of sums, depends on how the prompt was cut.
  const positions =
    window === undefined || options.mode === 'exact'
      ? whole
      : Math.min(whole, padded(window + options.batchRows));
  return positions * options.parallel * valuesPerPosition * CACHE_VALUE_BYTES;
}

/**
 * Compute buffers of a stage, estimated. Without flash attention (exact mode) the scores of all heads against all
 * positions are held at once, twice: before and after the softmax.
 */
export function computeBytes(model: ModelFacts, isLast: boolean, options: PlanOptions): number {
  const rows = options.batchRows;
  const positions = padded(options.contextTokens);
  const hidden = 6 * model.embeddingLength;
  const feedForward = 3 * model.feedForwardLength;
  const scores = options.mode === 'exact' ? 2 * model.headCount * positions : 0;
  const mask = positions;
  // Logits are made for the rows that are sampled, one a sequence at most, and copied out once.
  const logits = isLast ? 2 * Math.min(rows, options.parallel) * model.vocabSize : 0;
  return 4 * (rows * (Math.max(hidden + feedForward, hidden + scores) + mask) + logits);
}

/** Needs of the layers first <= i < end. O(1) after `stageMemoryTable`; here for one range. */
export function stageMemory(
  model: ModelFacts,
  first: number,
  end: number,
  options: PlanOptions,
): StageMemory {
  return stageMemoryTable(model, options)(first, end);
}

/** Prefix sums over the layers, so that a search can ask for any range in constant time. */
export function stageMemoryTable(
  model: ModelFacts,
  options: PlanOptions,
): (first: number, end: number) => StageMemory {
  const weights = [0];
  const cache = [0];
  for (const [i, layer] of model.layers.entries()) {
    weights.push((weights[i] ?? 0) + layer.weightBytes);
    cache.push((cache[i] ?? 0) + layerCacheBytes(layer, options));
  }
  const sum = (prefix: readonly number[], first: number, end: number): number =>
    (prefix[end] ?? 0) - (prefix[first] ?? 0);
  const count = model.layers.length;
  const compute = [computeBytes(model, false, options), computeBytes(model, true, options)];
  return (first, end) => {
    const isFirst = first === 0;
    const isLast = end === count;
    const parts = {
      weights:
        sum(weights, first, end) +
        model.sharedBytes +
        (isFirst ? model.embeddingBytes : 0) +
        (isLast ? model.headBytes : 0),
      cache: sum(cache, first, end),
      compute: compute[isLast ? 1 : 0] ?? 0,
      process: ENGINE_PROCESS_BYTES + (isFirst ? TEXT_PROCESS_BYTES : 0),
    };
    return {
      ...parts,
      total: parts.weights + parts.cache + parts.compute + parts.process,
    };
  };
}
