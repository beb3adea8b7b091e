/** A random model before it is written: its keys and its tensors' shapes. One recipe an architecture. */
import { arrayKey, scalarKey, type KeyEntry, type Scalar } from '@minikeep/gguf';

/** Sizes of a model. Head size times heads is deliberately not the embedding length. */
export interface Dimensions {
  readonly embedding: number;
  readonly heads: number;
  readonly headsKv: number;
  readonly headSize: number;
  readonly feedForward: number;
  readonly expertFeedForward: number;
  readonly vocabulary: number;
}

/** Rows of 64, 96 and 128: the AMX kernels are wrong for quantised rows of 32. */
export const TINY: Dimensions = {
  embedding: 96,
  heads: 4,
  headsKv: 2,
  headSize: 32,
  feedForward: 128,
  expertFeedForward: 64,
  vocabulary: 384,
};

/** Rows of 256, which Q4_K and Q6_K need. */
export const WIDE: Dimensions = {
  embedding: 256,
  heads: 8,
  headsKv: 2,
  headSize: 64,
  feedForward: 256,
  expertFeedForward: 256,
  vocabulary: 384,
};

/** Experts of every mixture, and how many of them a token goes through. */
export const EXPERTS = 8;
export const EXPERTS_USED = 2;

/** For loaders that take the queries to be as wide as the embedding. */
export const squareHeads = (d: Dimensions): Dimensions => ({
  ...d,
  headSize: d.embedding / d.heads,
});

/** 'router' and 'vector' stay F32, as converters write them. */
export type TensorKind = 'embedding' | 'matrix' | 'norm' | 'vector' | 'router' | 'frequencies';

export interface TensorRecipe {
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: TensorKind;
}

export interface Recipe {
  readonly keys: readonly KeyEntry[];
  readonly tensors: readonly TensorRecipe[];
}

/** Collects keys under an architecture's prefix, and tensors. */
export class RecipeBuilder {
  readonly architecture: string;
  readonly keys: KeyEntry[] = [];
  readonly tensors: TensorRecipe[] = [];

  constructor(architecture: string) {
    this.architecture = architecture;
    this.keys.push(
      scalarKey('general.architecture', 'string', architecture),
      scalarKey('general.name', 'string', `random ${architecture}`),
      scalarKey('general.license', 'string', 'apache-2.0'),
    );
  }

  u32(values: Readonly<Record<string, number>>): void {
    for (const [name, value] of Object.entries(values))
      this.keys.push(scalarKey(`${this.architecture}.${name}`, 'uint32', value));
  }

  f32(values: Readonly<Record<string, number>>): void {
    for (const [name, value] of Object.entries(values))
      this.keys.push(scalarKey(`${this.architecture}.${name}`, 'float32', value));
  }

  flag(name: string, value: boolean): void {
    this.keys.push(scalarKey(`${this.architecture}.${name}`, 'bool', value));
  }

  text(name: string, value: string): void {
    this.keys.push(scalarKey(`${this.architecture}.${name}`, 'string', value));
  }

  list(name: string, of: 'uint32' | 'bool' | 'float32', values: readonly Scalar[]): void {
    this.keys.push(arrayKey(`${this.architecture}.${name}`, of, values));
  }

  /** shape[0] is the row length, that is, the size of the input. */
  add(kind: TensorKind, name: string, ...shape: number[]): void {
    this.tensors.push({ kind, name, shape });
  }

  matrix(name: string, ...shape: number[]): void {
    this.add('matrix', `${name}.weight`, ...shape);
  }

  norm(name: string, length: number): void {
    this.add('norm', `${name}.weight`, length);
  }

  bias(name: string, ...shape: number[]): void {
    this.add('vector', `${name}.bias`, ...shape);
  }

  finish(): Recipe {
    return { keys: this.keys, tensors: this.tensors };
  }
}

/** What every architecture has: sizes, embedding, final norm, and the head unless it is tied. */
export function common(
  b: RecipeBuilder,
  d: Dimensions,
  layers: number,
  options: { readonly tied: boolean },
): void {
  b.u32({
    block_count: layers,
    context_length: 4096,
    embedding_length: d.embedding,
    feed_forward_length: d.feedForward,
    'attention.head_count': d.heads,
    'attention.head_count_kv': d.headsKv,
    'attention.key_length': d.headSize,
    'attention.value_length': d.headSize,
    vocab_size: d.vocabulary,
  });
  b.f32({ 'attention.layer_norm_rms_epsilon': 1e-5 });
  b.add('embedding', 'token_embd.weight', d.embedding, d.vocabulary);
  b.norm('output_norm', d.embedding);
  if (!options.tied) b.matrix('output', d.embedding, d.vocabulary);
}

/** Plain grouped-query attention, with or without biases. */
export function attention(b: RecipeBuilder, d: Dimensions, p: string, biases = false): void {
  const q = d.heads * d.headSize;
  const kv = d.headsKv * d.headSize;
  b.matrix(`${p}attn_q`, d.embedding, q);
  b.matrix(`${p}attn_k`, d.embedding, kv);
  b.matrix(`${p}attn_v`, d.embedding, kv);
  b.matrix(`${p}attn_output`, q, d.embedding);
  if (!biases) return;
  b.bias(`${p}attn_q`, q);
  b.bias(`${p}attn_k`, kv);
  b.bias(`${p}attn_v`, kv);
}

/** Gated feed-forward. */
export function feedForward(b: RecipeBuilder, d: Dimensions, p: string): void {
  b.matrix(`${p}ffn_gate`, d.embedding, d.feedForward);
  b.matrix(`${p}ffn_up`, d.embedding, d.feedForward);
  b.matrix(`${p}ffn_down`, d.feedForward, d.embedding);
}

/** Gated experts and their router. */
export function experts(b: RecipeBuilder, d: Dimensions, p: string): void {
  const length = d.expertFeedForward;
  b.add('router', `${p}ffn_gate_inp.weight`, d.embedding, EXPERTS);
  b.matrix(`${p}ffn_gate_exps`, d.embedding, length, EXPERTS);
  b.matrix(`${p}ffn_up_exps`, d.embedding, length, EXPERTS);
  b.matrix(`${p}ffn_down_exps`, length, d.embedding, EXPERTS);
}

/** Keys of a mixture of experts. */
export function routed(b: RecipeBuilder, d: Dimensions): void {
  b.u32({
    expert_count: EXPERTS,
    expert_used_count: EXPERTS_USED,
    expert_feed_forward_length: d.expertFeedForward,
  });
}

/** Norms of each head's queries and keys. */
export function headNorms(b: RecipeBuilder, d: Dimensions, p: string): void {
  b.norm(`${p}attn_q_norm`, d.headSize);
  b.norm(`${p}attn_k_norm`, d.headSize);
}

/** What an architecture's layers have besides, or instead of, what most have. */
export interface LayerParts {
  /** Biases of queries, keys and values. */
  readonly biases?: boolean;
  readonly afterAttention?: (b: RecipeBuilder, d: Dimensions, p: string) => void;
  /** Instead of the plain gated feed-forward. */
  readonly feedForward?: (b: RecipeBuilder, d: Dimensions, p: string) => void;
}

/** The layers of most architectures: norm, attention, norm, feed-forward. */
export function plainLayers(
  b: RecipeBuilder,
  d: Dimensions,
  layers: number,
  parts: LayerParts = {},
): void {
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p, parts.biases);
    parts.afterAttention?.(b, d, p);
    b.norm(`${p}ffn_norm`, d.embedding);
    (parts.feedForward ?? feedForward)(b, d, p);
  }
}
