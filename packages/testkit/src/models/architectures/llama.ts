/** llama and the dense and sparse qwen models, which differ from it by biases, head norms and experts. */
import {
  attention,
  common,
  experts,
  feedForward,
  RecipeBuilder,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

const EXPERTS = 8;
const EXPERTS_USED = 2;

export function llama(
  d: Dimensions,
  layers: number,
  options: { readonly tied: boolean; readonly ropeFrequencies: boolean },
): Recipe {
  const b = new RecipeBuilder('llama');
  common(b, d, layers, options);
  b.u32({ 'rope.dimension_count': d.headSize });
  b.f32({ 'rope.freq_base': 500_000 });
  if (options.ropeFrequencies) b.add('frequencies', 'rope_freqs.weight', d.headSize / 2);
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    b.norm(`${p}ffn_norm`, d.embedding);
    feedForward(b, d, p);
  }
  return b.finish();
}

export function qwen2(
  dimensions: Dimensions,
  layers: number,
  options: { readonly tied: boolean; readonly outputBias?: boolean },
): Recipe {
  // Its loader takes the queries to be as wide as the embedding.
  const d = { ...dimensions, headSize: dimensions.embedding / dimensions.heads };
  const b = new RecipeBuilder('qwen2');
  common(b, d, layers, options);
  b.f32({ 'rope.freq_base': 1_000_000 });
  if (options.outputBias === true) b.bias('output', d.vocabulary);
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p, true);
    b.norm(`${p}ffn_norm`, d.embedding);
    feedForward(b, d, p);
  }
  return b.finish();
}

export function qwen3(d: Dimensions, layers: number, options: { readonly tied: boolean }): Recipe {
  const b = new RecipeBuilder('qwen3');
  common(b, d, layers, options);
  b.f32({ 'rope.freq_base': 1_000_000 });
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    b.norm(`${p}attn_q_norm`, d.headSize);
    b.norm(`${p}attn_k_norm`, d.headSize);
    b.norm(`${p}ffn_norm`, d.embedding);
    feedForward(b, d, p);
  }
  return b.finish();
}

export function qwen3moe(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('qwen3moe');
  common(b, d, layers, { tied: false });
  b.u32({
    expert_count: EXPERTS,
    expert_used_count: EXPERTS_USED,
    expert_feed_forward_length: d.expertFeedForward,
  });
  b.f32({ 'rope.freq_base': 1_000_000 });
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    b.norm(`${p}attn_q_norm`, d.headSize);
    b.norm(`${p}attn_k_norm`, d.headSize);
    b.norm(`${p}ffn_norm`, d.embedding);
    experts(b, d, p, EXPERTS);
  }
  return b.finish();
}
