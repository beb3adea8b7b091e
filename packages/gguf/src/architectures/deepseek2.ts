/**
 * deepseek2's loader guesses twice from the layer count, and a slice has another count than the model:
 * 26 or 27 layers (48 with a vocabulary of 128256) mean "lite", without low-rank queries; and a file without
 * `expert_gating_func` gets sigmoid at 47 or 48 layers with a vocabulary of 154880, softmax otherwise.
 */
import type { ExtraKey } from './row.ts';
import type { ModelShape } from './shape.ts';

const LITE_LAYERS: readonly number[] = [26, 27];
const LITE_LAYERS_WITH_VOCABULARY = { layers: 48, vocabulary: 128_256 };
const SIGMOID_LAYERS: readonly number[] = [47, 48];
const SIGMOID_VOCABULARY = 154_880;
const GATING = { softmax: 1, sigmoid: 2 };

/** The loader would take a slice of that length for a lite model. `vocabulary`: of the slice, not of the model. */
function takenForLite(layers: number, vocabulary: number): boolean {
  return (
    LITE_LAYERS.includes(layers) ||
    (layers === LITE_LAYERS_WITH_VOCABULARY.layers &&
      vocabulary === LITE_LAYERS_WITH_VOCABULARY.vocabulary)
  );
}

const isLite = (shape: ModelShape): boolean => (shape.queryRank ?? 0) === 0;

export function refuseDeepseek2Length(
  shape: ModelShape,
  first: number,
  end: number,
): string | undefined {
  if (isLite(shape)) return undefined;
  // Only the last slice carries the vocabulary; asked for every slice, the answer stays simple and safe.
  if (takenForLite(end - first, shape.vocabSize))
    return `llama.cpp takes a deepseek2 file of ${end - first} layers for a lite model and does not load its queries`;
  return undefined;
}

export function deepseek2Keys(shape: ModelShape): readonly ExtraKey[] {
  const keys: ExtraKey[] = [];
  // Absent in lite files, and required at any other length.
  if (isLite(shape)) keys.push({ name: 'attention.q_lora_rank', type: 'uint32', value: 0 });
  if ((shape.expertGatingFunction ?? 0) === 0) {
    const sigmoid = SIGMOID_LAYERS.includes(shape.layers) && shape.vocabSize === SIGMOID_VOCABULARY;
    keys.push({
      name: 'expert_gating_func',
      type: 'uint32',
      value: sigmoid ? GATING.sigmoid : GATING.softmax,
    });
  }
  return keys;
}
