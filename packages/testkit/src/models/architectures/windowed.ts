/** gemma2, gemma3 and gpt-oss: layers that slide in a pattern, with windows far shorter than the tests' prompts. */
import {
  attention,
  common,
  experts,
  EXPERTS,
  EXPERTS_USED,
  feedForward,
  headNorms,
  RecipeBuilder,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

const WINDOW = 16;

export function gemma2(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('gemma2');
  common(b, d, layers, { tied: true });
  b.u32({ 'attention.sliding_window': WINDOW });
  b.f32({ attn_logit_softcapping: 50, final_logit_softcapping: 30 });
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    b.norm(`${p}post_attention_norm`, d.embedding);
    b.norm(`${p}ffn_norm`, d.embedding);
    feedForward(b, d, p);
    b.norm(`${p}post_ffw_norm`, d.embedding);
  }
  return b.finish();
}

export function gemma3(
  d: Dimensions,
  layers: number,
  options: { readonly period?: number } = {},
): Recipe {
  const b = new RecipeBuilder('gemma3');
  common(b, d, layers, { tied: true });
  b.u32({ 'attention.sliding_window': WINDOW });
  if (options.period !== undefined) b.u32({ 'attention.sliding_window_pattern': options.period });
  b.f32({ 'rope.freq_base': 1_000_000, 'rope.freq_base_swa': 5000, 'rope.scaling.factor': 8 });
  b.text('rope.scaling.type', 'linear');
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    headNorms(b, d, p);
    b.norm(`${p}post_attention_norm`, d.embedding);
    b.norm(`${p}ffn_norm`, d.embedding);
    feedForward(b, d, p);
    b.norm(`${p}post_ffw_norm`, d.embedding);
  }
  return b.finish();
}

export function gptOss(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('gpt-oss');
  common(b, d, layers, { tied: false });
  b.u32({
    'rope.dimension_count': d.headSize,
    'attention.sliding_window': WINDOW,
    expert_feed_forward_length: d.expertFeedForward,
    expert_count: EXPERTS,
    expert_used_count: EXPERTS_USED,
    'rope.scaling.original_context_length': 16,
  });
  b.f32({ 'rope.freq_base': 150_000, 'rope.freq_base_swa': 9000, 'rope.scaling.factor': 32 });
  b.text('rope.scaling.type', 'yarn');
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p, true);
    b.bias(`${p}attn_output`, d.embedding);
    b.add('vector', `${p}attn_sinks.weight`, d.heads);
    b.norm(`${p}post_attention_norm`, d.embedding);
    experts(b, d, p);
    b.bias(`${p}ffn_gate_inp`, EXPERTS);
    b.bias(`${p}ffn_gate_exps`, d.expertFeedForward, EXPERTS);
    b.bias(`${p}ffn_up_exps`, d.expertFeedForward, EXPERTS);
    b.bias(`${p}ffn_down_exps`, d.embedding, EXPERTS);
  }
  return b.finish();
}
