/**
 * How much of a graph llama.cpp holds at once. Its allocator gives a tensor's memory to the next one as soon as nobody
 * needs it, so what counts is the largest moment of a layer. The sums below are fitted to what llama.cpp v0.4.0 reserves
 * for models of real dimensions (test/memory.test.ts): input, residual and the branch at work, each as wide as the
 * embedding; queries before and after their rotation; keys and values; gate, up and their product.
 */
import { slides, shapeOf, type Model } from '@minikeep/gguf';
import { keyValueWidths, numberOf, numbersOf } from './numbers.ts';
import type { GraphFacts } from './types.ts';

const STREAMS = 3;
/** gpt-oss computes its activation and the product of gate and up in one step. */
const ONE_STEP = new Set(['gpt-oss']);

export function graphOf(model: Model, layers: number, period: number | undefined): GraphFacts {
  const { embeddingLength } = shapeOf(model);
  const streams = STREAMS * embeddingLength;
  const sliding = Array.from(
    { length: layers },
    (_, i) => period !== undefined && slides(i, period),
  );
  let attentionValues = 0;
  let queryWidth = 0;
  let headCount = 0;
  for (const [i, slide] of sliding.entries()) {
    const { heads, headsKv, keys, values } = keyValueWidths(model, i, slide);
    headCount = Math.max(headCount, heads);
    const latentKeys = numberOf(model, 'attention.key_length_mla');
    if (latentKeys === undefined) {
      queryWidth = Math.max(queryWidth, heads * keys);
      // With two kinds of layers the keys and values of one are still there when the other's come.
      const pairs = period === undefined ? 1 : 2;
      attentionValues = Math.max(
        attentionValues,
        2 * heads * keys + pairs * headsKv * (keys + values),
      );
    } else {
      // Queries as the model has them, their content, and twice as wide as the compressed keys.
      const rope = numberOf(model, 'rope.dimension_count') ?? 0;
      queryWidth = Math.max(queryWidth, heads * latentKeys);
      const latent = heads * (2 * keys + latentKeys + Math.max(0, latentKeys - rope));
      attentionValues = Math.max(attentionValues, latent);
    }
  }
  const dense = 3 * Math.max(0, ...numbersOf(model, 'feed_forward_length', layers));
  const window = sliding.includes(true) ? numberOf(model, 'attention.sliding_window') : undefined;
  return {
    attentionValues: streams + attentionValues,
    feedForwardValues: streams + queryWidth + Math.max(dense, expertValues(model, layers)),
    headCount,
    ...(window === undefined ? {} : { window }),
    hasFullLayers: sliding.includes(false),
  };
}

/** Every expert that a token uses has gate, up and product, and an output as wide as the embedding. */
function expertValues(model: Model, layers: number): number {
  const used = Math.max(0, ...numbersOf(model, 'expert_used_count', layers));
  const length = Math.max(
    0,
    ...numbersOf(model, 'expert_feed_forward_length', layers),
    // Some architectures have one length for both.
    ...(numberOf(model, 'expert_feed_forward_length') === undefined
      ? numbersOf(model, 'feed_forward_length', layers)
      : []),
  );
  const held = ONE_STEP.has(model.architecture) ? 2 : 3;
  return used * (held * length + shapeOf(model).embeddingLength);
}
