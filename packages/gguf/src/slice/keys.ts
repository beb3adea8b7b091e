/** The metadata of a slice: the model's own, with everything that counts layers brought in step with the range. */
import { refusal, shapeOf } from '../architectures/shape.ts';
import { architectureOf, windowPeriodOf } from '../architectures/cuts.ts';
import { anySlides, periodFor } from '../architectures/windows.ts';
import { archKey, integerOf } from '../metadata.ts';
import type { MetadataValue, Model } from '../types.ts';
import { arrayKey, scalarKey, type KeyEntry } from '../write/layout.ts';
import { FACT, SLICE_VERSION, type SliceFacts } from './facts.ts';

/** Rows of the embedding and head that a slice without vocabulary carries only so that it loads. */
export const PLACEHOLDER_ROWS = 32;

/** Lists with one entry a layer. By name: other lists may happen to be as long. */
const LAYER_LISTS: readonly string[] = [
  'feed_forward_length',
  'expert_feed_forward_length',
  'expert_used_count',
  'attention.head_count',
  'attention.head_count_kv',
  'attention.sliding_window_pattern',
  'attention.recurrent_layers',
  'attention.rope_pattern',
  'attention.indexer.types',
  'swiglu_clamp_exp',
  'swiglu_clamp_shexp',
];

/** Keys that are about the file, not the model. */
const FILE_KEYS = /^(split\.|general\.alignment$|minikeep\.)/;
/** Text that no stage needs: it stays with the text slice. */
const TEXT_ONLY_KEYS = /^tokenizer\.(chat_template|huggingface\.)/;

const copied = (key: string, entry: MetadataValue): KeyEntry => ({
  key,
  type: entry.type,
  value: entry.range,
});

/** Metadata of the stage with layers first <= i < end. */
export function stageKeys(model: Model, first: number, end: number, facts: SliceFacts): KeyEntry[] {
  const row = architectureOf(model);
  const shape = shapeOf(model);
  const last = end === shape.layers;
  const replaced = new Map<string, KeyEntry | undefined>();
  const replace = (name: string, value: number | undefined): void => {
    const key = archKey(model, name);
    replaced.set(key, value === undefined ? undefined : scalarKey(key, 'uint32', value));
  };
  replace('block_count', end - first);
  replace('nextn_predict_layers', undefined);
  const dense = integerOf(model, archKey(model, 'leading_dense_block_count'));
  if (dense !== undefined) replace('leading_dense_block_count', Math.max(0, dense - first));
  if (first > 0) for (const name of row.firstOnlyKeys ?? []) replace(name, undefined);
  for (const { name, value } of row.extraKeys?.(shape) ?? []) replace(name, value);
  replaceWindow(model, first, end, replace);
  if (!last) {
    replace('vocab_size', PLACEHOLDER_ROWS);
    replaced.set('tokenizer.ggml.model', scalarKey('tokenizer.ggml.model', 'string', 'no_vocab'));
  }
  const keys: KeyEntry[] = [];
  for (const [key, entry] of model.metadata) {
    if (replaced.has(key) || FILE_KEYS.test(key) || TEXT_ONLY_KEYS.test(key)) continue;
    if (!last && key.startsWith('tokenizer.')) continue;
    keys.push(layerList(model, key, entry, first, end) ?? copied(key, entry));
  }
  for (const entry of replaced.values()) if (entry !== undefined) keys.push(entry);
  return [...keys, ...factKeys(facts)];
}

function replaceWindow(
  model: Model,
  first: number,
  end: number,
  replace: (name: string, value: number) => void,
): void {
  const period = windowPeriodOf(model);
  if (period === undefined) return;
  if (!anySlides(first, end, period)) {
    replace('attention.sliding_window', 0);
    return;
  }
  const own = periodFor(first, end, period);
  if (own === undefined) throw new Error('a range that breaks the window pattern was not refused');
  replace('attention.sliding_window_pattern', own);
}

/** The part of a list with one entry a layer; undefined for any other key. */
function layerList(
  model: Model,
  key: string,
  entry: MetadataValue,
  first: number,
  end: number,
): KeyEntry | undefined {
  if (entry.type !== 'array') return undefined;
  if (!LAYER_LISTS.some((name) => key === archKey(model, name))) return undefined;
  const { blocks, layers } = shapeOf(model);
  if (entry.value === undefined || (entry.count !== blocks && entry.count !== layers))
    throw refusal(model, `'${key}' has ${entry.count} entries for ${blocks} layers`);
  return arrayKey(key, entry.of, entry.value.slice(first, end));
}

/** Metadata of the text slice: what a tokenizer and a chat template need, and nothing of the layers. */
export function textKeys(model: Model, facts: SliceFacts): KeyEntry[] {
  const keys: KeyEntry[] = [];
  for (const [key, entry] of model.metadata)
    if (/^(general|tokenizer)\./.test(key) && !FILE_KEYS.test(key)) keys.push(copied(key, entry));
  return [...keys, ...factKeys(facts)];
}

/** Metadata of the embedding slice. It is read by the engine itself, never loaded by llama.cpp. */
export function embeddingKeys(model: Model, facts: SliceFacts): KeyEntry[] {
  return [scalarKey('general.architecture', 'string', model.architecture), ...factKeys(facts)];
}

function factKeys(facts: SliceFacts): KeyEntry[] {
  const keys = [
    scalarKey(FACT.version, 'uint32', SLICE_VERSION),
    scalarKey(FACT.kind, 'string', facts.kind),
    scalarKey(FACT.layerFirst, 'uint32', facts.layers[0]),
    scalarKey(FACT.layerEnd, 'uint32', facts.layers[1]),
    scalarKey(FACT.layerCount, 'uint32', facts.layerCount),
    scalarKey(FACT.embeddingLength, 'uint32', facts.embeddingLength),
    scalarKey(FACT.vocabSize, 'uint32', facts.vocabSize),
    scalarKey(FACT.inputMode, 'string', facts.inputMode),
    scalarKey(FACT.inputNode, 'string', facts.inputNode),
    scalarKey(FACT.rowScale, 'float32', facts.rowScale),
    scalarKey(FACT.positionsPerRow, 'uint32', facts.positionsPerRow),
    scalarKey(FACT.recurrent, 'bool', facts.recurrent),
  ];
  if (facts.attentionScale !== undefined)
    keys.push(
      scalarKey(FACT.attentionScaleFrom, 'float32', facts.attentionScale.from),
      scalarKey(FACT.attentionScaleTo, 'float32', facts.attentionScale.to),
    );
  return keys;
}
