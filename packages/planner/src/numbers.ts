/** A model's numbers under its architecture's prefix, for all layers or for one. */
import { archKey, integerOf, integersOf, type Model } from '@minikeep/gguf';

export const numberOf = (model: Model, name: string): number | undefined =>
  integerOf(model, archKey(model, name));

/** One number for each of `count` layers; a scalar holds for all. Empty when the key is absent. Throws `gguf.value`. */
export function numbersOf(model: Model, name: string, count: number): readonly number[] {
  const key = archKey(model, name);
  if (model.metadata.get(key)?.type === 'array') return integersOf(model, key);
  const scalar = numberOf(model, name);
  return scalar === undefined ? [] : Array.from({ length: count }, () => scalar);
}

export interface KeyValueWidths {
  readonly heads: number;
  readonly headsKv: number;
  /** Numbers of one head's key and value. */
  readonly keys: number;
  readonly values: number;
}

/** `sliding`: the layer looks back over a window, and may have heads of another size. */
export function keyValueWidths(model: Model, layer: number, sliding: boolean): KeyValueWidths {
  const heads = numbersOf(model, 'attention.head_count', layer + 1)[layer] ?? 0;
  const headsKv = numbersOf(model, 'attention.head_count_kv', layer + 1)[layer] ?? heads;
  const width = heads > 0 ? (numberOf(model, 'embedding_length') ?? 0) / heads : 0;
  const swa = sliding ? '_swa' : '';
  const keys =
    numberOf(model, `attention.key_length${swa}`) ??
    numberOf(model, 'attention.key_length') ??
    width;
  const values =
    numberOf(model, `attention.value_length${swa}`) ??
    numberOf(model, 'attention.value_length') ??
    width;
  return { heads, headsKv, keys, values };
}
