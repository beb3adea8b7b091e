/**
 * How much memory a range of layers takes in an engine: weights, KV cache, compute buffers, the process itself.
 * Weights and cache are exact (they follow from the file and from how llama.cpp lays the cache out); compute buffers
 * follow from the largest tensors of a graph. All three are compared with what the engine allocates, and with what
 * llama.cpp says of models of real dimensions (test/memory.test.ts).
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
  const positions =
    window === undefined
      ? padded(options.contextTokens) * options.parallel
      : windowPositions(window, options);
  return positions * valuesPerPosition * CACHE_VALUE_BYTES;
}

/**
 * A sliding layer keeps each sequence's window and one batch that may be on its way in. Not in exact mode: a small
 * cache is a ring whose order, and so the order of sums, depends on how the prompt was cut.
 */
function windowPositions(window: number, options: PlanOptions): number {
  const whole = padded(options.contextTokens) * options.parallel;
  return options.mode === 'exact'
    ? whole
    : Math.min(whole, padded(window * options.parallel + options.batchRows));
}

/**
 * Compute buffers of a stage: what attention or the feed-forward holds at once, whichever is more, and what every
 * graph has besides: the masks and the logits.
 */
export function computeBytes(model: ModelFacts, isLast: boolean, options: PlanOptions): number {
  const { graph } = model;
  const exact = options.mode === 'exact';
  const positions = padded(options.contextTokens);
  // Without flash attention the scores of all heads against all positions of a sequence are held at once.
  const scores = exact ? graph.headCount * positions : 0;
  const values = Math.max(graph.attentionValues + scores, graph.feedForwardValues);
  const kinds = [
    ...(graph.hasFullLayers ? [positions * options.parallel] : []),
    ...(graph.window === undefined ? [] : [windowPositions(graph.window, options)]),
  ];
  // Exact: F32, each sequence its own. Fast: F16, all sequences in one.
  const mask = kinds.reduce((sum, all) => sum + (exact ? all / options.parallel : all / 2), 0);
  // Logits are made for the rows that are sampled, one a sequence at most.
  const logits = isLast ? Math.min(options.batchRows, options.parallel) * model.vocabSize : 0;
  return 4 * (options.batchRows * (values + mask) + logits);
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
