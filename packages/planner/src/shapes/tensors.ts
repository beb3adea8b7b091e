/** Every tensor that a shape's GGUF file has, and the keys that the planner and llama.cpp's loader ask for. */
import type { Experts, LatentAttention, Shape, ShapeTensor } from './shape.ts';

export function tensorsOf(shape: Shape): ShapeTensor[] {
  const all = new Tensors();
  all.matrix('token_embd.weight', shape.embedding, shape.vocabulary);
  all.plain('output_norm.weight', shape.embedding);
  if (shape.tied !== true) all.matrix('output.weight', shape.embedding, shape.vocabulary);
  if (shape.ropeFrequencies !== undefined) all.plain('rope_freqs.weight', shape.ropeFrequencies);
  const blocks = shape.layers + (shape.mtpBlocks ?? 0);
  for (let layer = 0; layer < blocks; layer++) {
    all.layer = layer;
    all.plain(`blk.${layer}.attn_norm.weight`, shape.embedding);
    if (shape.latent === undefined) attention(all, shape);
    else latentAttention(all, shape, shape.latent);
    const sparse = shape.experts !== undefined && layer >= shape.experts.leadingDense;
    if (sparse) experts(all, shape, shape.experts);
    else feedForward(all, shape);
    if (layer >= shape.layers) nextTokens(all, shape);
  }
  return all.tensors;
}

/** Keys of numbers, without the architecture's prefix. */
export function numbersOf(shape: Shape): Record<string, number> {
  const { experts: e, latent: l, window } = shape;
  return {
    block_count: shape.layers + (shape.mtpBlocks ?? 0),
    context_length: shape.context,
    embedding_length: shape.embedding,
    feed_forward_length: shape.feedForward,
    'attention.head_count': shape.heads,
    'attention.head_count_kv': l === undefined ? shape.headsKv : 1,
    'attention.key_length': l === undefined ? shape.headSize : l.kvRank + l.rope,
    'attention.value_length': l === undefined ? shape.headSize : l.kvRank,
    'rope.dimension_count':
      l === undefined ? shape.headSize / (shape.architecture === 'glm4moe' ? 2 : 1) : l.rope,
    ...(l === undefined
      ? {}
      : {
          'attention.key_length_mla': l.content + l.rope,
          'attention.value_length_mla': l.value,
          'attention.kv_lora_rank': l.kvRank,
          'attention.q_lora_rank': l.queryRank,
        }),
    ...(window === undefined ? {} : { 'attention.sliding_window': window }),
    ...(shape.mtpBlocks === undefined ? {} : { nextn_predict_layers: shape.mtpBlocks }),
    ...(e === undefined
      ? {}
      : {
          expert_count: e.count,
          expert_used_count: e.used,
          expert_feed_forward_length: e.feedForward,
          ...(e.shared > 0 ? { expert_shared_count: e.shared, expert_gating_func: 2 } : {}),
          ...(e.leadingDense > 0 ? { leading_dense_block_count: e.leadingDense } : {}),
        }),
  };
}

class Tensors {
  readonly tensors: ShapeTensor[] = [];
  layer = -1;

  /** A matrix with rows of `row`, or one for each expert. */
  matrix(name: string, row: number, ...more: number[]): void {
    this.tensors.push({ name, shape: [row, ...more], kind: 'matrix', layer: this.layer });
  }

  plain(name: string, ...shape: number[]): void {
    this.tensors.push({ name, shape, kind: 'plain', layer: this.layer });
  }

  /** Of the layer at hand. */
  weight(name: string, row: number, ...more: number[]): void {
    this.matrix(`blk.${this.layer}.${name}.weight`, row, ...more);
  }

  norm(name: string, length: number): void {
    this.plain(`blk.${this.layer}.${name}.weight`, length);
  }

  bias(name: string, ...shape: number[]): void {
    this.plain(`blk.${this.layer}.${name}.bias`, ...shape);
  }
}

const BIASED = new Set(['qwen2', 'gpt-oss', 'glm4moe']);
const HEAD_NORMS = new Set(['qwen3', 'qwen3moe', 'gemma3']);

function attention(all: Tensors, shape: Shape): void {
  const { architecture, embedding, headSize } = shape;
  const queries = shape.heads * headSize;
  const keys = shape.headsKv * headSize;
  all.weight('attn_q', embedding, queries);
  all.weight('attn_k', embedding, keys);
  all.weight('attn_v', embedding, keys);
  all.weight('attn_output', queries, embedding);
  if (BIASED.has(architecture)) {
    all.bias('attn_q', queries);
    all.bias('attn_k', keys);
    all.bias('attn_v', keys);
  }
  if (HEAD_NORMS.has(architecture)) {
    all.norm('attn_q_norm', headSize);
    all.norm('attn_k_norm', headSize);
  }
  if (architecture === 'gpt-oss') {
    all.bias('attn_output', embedding);
    all.norm('attn_sinks', shape.heads);
  }
  if (architecture === 'gpt-oss' || architecture === 'glm4moe')
    all.norm('post_attention_norm', embedding);
  else {
    all.norm('ffn_norm', embedding);
    if (architecture === 'gemma3') {
      all.norm('post_attention_norm', embedding);
      all.norm('post_ffw_norm', embedding);
    }
  }
}

function latentAttention(all: Tensors, { embedding, heads }: Shape, l: LatentAttention): void {
  all.weight('attn_q_a', embedding, l.queryRank);
  all.norm('attn_q_a_norm', l.queryRank);
  all.weight('attn_q_b', l.queryRank, heads * (l.content + l.rope));
  all.weight('attn_kv_a_mqa', embedding, l.kvRank + l.rope);
  all.norm('attn_kv_a_norm', l.kvRank);
  all.weight('attn_k_b', l.content, l.kvRank, heads);
  all.weight('attn_v_b', l.kvRank, l.value, heads);
  all.weight('attn_output', heads * l.value, embedding);
  all.norm('ffn_norm', embedding);
}

function feedForward(all: Tensors, { embedding, feedForward: length }: Shape): void {
  all.weight('ffn_gate', embedding, length);
  all.weight('ffn_up', embedding, length);
  all.weight('ffn_down', length, embedding);
}

function experts(all: Tensors, { architecture, embedding }: Shape, e: Experts): void {
  all.plain(`blk.${all.layer}.ffn_gate_inp.weight`, embedding, e.count);
  all.weight('ffn_gate_exps', embedding, e.feedForward, e.count);
  all.weight('ffn_up_exps', embedding, e.feedForward, e.count);
  all.weight('ffn_down_exps', e.feedForward, embedding, e.count);
  if (architecture === 'gpt-oss') {
    all.bias('ffn_gate_inp', e.count);
    all.bias('ffn_gate_exps', e.feedForward, e.count);
    all.bias('ffn_up_exps', e.feedForward, e.count);
    all.bias('ffn_down_exps', embedding, e.count);
  }
  if (e.shared === 0) return;
  all.bias('exp_probs_b', e.count);
  const shared = e.feedForward * e.shared;
  all.weight('ffn_gate_shexp', embedding, shared);
  all.weight('ffn_up_shexp', embedding, shared);
  all.weight('ffn_down_shexp', shared, embedding);
}

/** What predicts further tokens; a split leaves it out. */
function nextTokens(all: Tensors, { embedding, vocabulary }: Shape): void {
  all.weight('nextn.eh_proj', 2 * embedding, embedding);
  all.weight('nextn.embed_tokens', embedding, vocabulary);
  all.weight('nextn.shared_head_head', embedding, vocabulary);
  all.norm('nextn.enorm', embedding);
  all.norm('nextn.hnorm', embedding);
  all.norm('nextn.shared_head_norm', embedding);
}
