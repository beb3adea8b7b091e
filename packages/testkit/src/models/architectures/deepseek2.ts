/** deepseek2: multi-head latent attention, leading dense layers, experts with shared ones, YaRN. */
import {
  common,
  experts,
  EXPERTS,
  EXPERTS_USED,
  feedForward,
  RecipeBuilder,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

const EXPERTS_SHARED = 1;
/** Head size = positions (rope) + content; all rows are multiples of 64. */
const ROPE = 32;

export function deepseek2(
  d: Dimensions,
  layers: number,
  options: { readonly dense: number; readonly lite: boolean; readonly gating?: 1 | 2 },
): Recipe {
  const wide = d.embedding >= 256;
  const content = wide ? 256 : 64;
  const rank = wide ? 256 : 64;
  const value = 64;
  const b = new RecipeBuilder('deepseek2');
  // One key and value for all heads: the latent one.
  common(b, { ...d, headsKv: 1, headSize: rank + ROPE }, layers, { tied: false });
  b.keys.splice(
    b.keys.findIndex((entry) => entry.key === 'deepseek2.attention.value_length'),
    1,
  );
  b.u32({
    'attention.value_length': rank,
    'attention.key_length_mla': content + ROPE,
    'attention.value_length_mla': value,
    'attention.kv_lora_rank': rank,
    'rope.dimension_count': ROPE,
    leading_dense_block_count: options.dense,
    expert_feed_forward_length: d.expertFeedForward,
    expert_count: EXPERTS,
    expert_used_count: EXPERTS_USED,
    expert_shared_count: EXPERTS_SHARED,
    // Far below the prompts' lengths, so that YaRN is really at work.
    'rope.scaling.original_context_length': 16,
  });
  if (!options.lite) b.u32({ 'attention.q_lora_rank': rank });
  if (options.gating !== undefined) b.u32({ expert_gating_func: options.gating });
  b.f32({
    expert_weights_scale: 2.5,
    'rope.freq_base': 10_000,
    'rope.scaling.factor': 40,
    'rope.scaling.yarn_log_multiplier': 0.1,
  });
  b.flag('expert_weights_norm', true);
  b.text('rope.scaling.type', 'yarn');
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    if (options.lite) b.matrix(`${p}attn_q`, d.embedding, d.heads * (content + ROPE));
    else {
      b.matrix(`${p}attn_q_a`, d.embedding, rank);
      b.norm(`${p}attn_q_a_norm`, rank);
      b.matrix(`${p}attn_q_b`, rank, d.heads * (content + ROPE));
    }
    b.matrix(`${p}attn_kv_a_mqa`, d.embedding, rank + ROPE);
    b.norm(`${p}attn_kv_a_norm`, rank);
    b.matrix(`${p}attn_k_b`, content, rank, d.heads);
    b.matrix(`${p}attn_v_b`, rank, value, d.heads);
    b.matrix(`${p}attn_output`, d.heads * value, d.embedding);
    b.norm(`${p}ffn_norm`, d.embedding);
    if (i < options.dense) feedForward(b, d, p);
    else {
      experts(b, d, p);
      if (options.gating === 2) b.bias(`${p}exp_probs_b`, EXPERTS);
      const shared = d.expertFeedForward * EXPERTS_SHARED;
      b.matrix(`${p}ffn_gate_shexp`, d.embedding, shared);
      b.matrix(`${p}ffn_up_shexp`, d.embedding, shared);
      b.matrix(`${p}ffn_down_shexp`, shared, d.embedding);
    }
  }
  return b.finish();
}
