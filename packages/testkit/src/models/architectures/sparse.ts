/** Mixtures of experts beyond qwen3moe and deepseek2. */
import { graniteScales } from './dense.ts';
import {
  attention,
  common,
  experts,
  EXPERTS,
  EXPERTS_USED,
  feedForward,
  headNorms,
  plainLayers,
  RecipeBuilder,
  routed,
  squareHeads,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

const SIGMOID = 2;

/** Experts as long as the plain feed-forward: these loaders know one length only. */
const oneLength = (d: Dimensions): Dimensions => ({ ...d, feedForward: d.expertFeedForward });

/** The expert that every token passes. */
function shared(b: RecipeBuilder, d: Dimensions, p: string): void {
  b.matrix(`${p}ffn_gate_shexp`, d.embedding, d.expertFeedForward);
  b.matrix(`${p}ffn_up_shexp`, d.embedding, d.expertFeedForward);
  b.matrix(`${p}ffn_down_shexp`, d.expertFeedForward, d.embedding);
}

export function qwen2moe(dimensions: Dimensions, layers: number): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder('qwen2moe');
  common(b, d, layers, { tied: false });
  routed(b, d);
  b.u32({ expert_shared_feed_forward_length: d.expertFeedForward });
  b.f32({ 'rope.freq_base': 1_000_000 });
  plainLayers(b, d, layers, {
    biases: true,
    feedForward: (...layer) => {
      experts(...layer);
      b.add('router', `${layer[2]}ffn_gate_inp_shexp.weight`, d.embedding);
      shared(...layer);
    },
  });
  return b.finish();
}

export function graniteMoe(dimensions: Dimensions, layers: number): Recipe {
  const d = oneLength(dimensions);
  const b = new RecipeBuilder('granitemoe');
  common(b, d, layers, { tied: true });
  b.u32({ expert_count: EXPERTS, expert_used_count: EXPERTS_USED });
  graniteScales(b, d);
  plainLayers(b, d, layers, { feedForward: experts });
  return b.finish();
}

/** `layers` without the MTP block, which comes after them. */
export function glm4moe(
  d: Dimensions,
  layers: number,
  options: { readonly dense: number; readonly headNorms: boolean },
): Recipe {
  const b = new RecipeBuilder('glm4moe');
  common(b, d, layers + 1, { tied: false });
  routed(b, d);
  b.u32({
    'rope.dimension_count': d.headSize / 2,
    leading_dense_block_count: options.dense,
    expert_shared_count: 1,
    expert_gating_func: SIGMOID,
    nextn_predict_layers: 1,
  });
  b.f32({ 'rope.freq_base': 1_000_000, expert_weights_scale: 2.5 });
  b.flag('expert_weights_norm', true);
  for (let i = 0; i <= layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p, true);
    if (options.headNorms) {
      headNorms(b, d, p);
    }
    b.norm(`${p}post_attention_norm`, d.embedding);
    if (i < options.dense) feedForward(b, d, p);
    else {
      experts(b, d, p);
      b.bias(`${p}exp_probs_b`, EXPERTS);
      shared(b, d, p);
    }
    if (i < layers) continue;
    b.matrix(`${p}nextn.eh_proj`, 2 * d.embedding, d.embedding);
    b.norm(`${p}nextn.enorm`, d.embedding);
    b.norm(`${p}nextn.hnorm`, d.embedding);
    b.norm(`${p}nextn.shared_head_norm`, d.embedding);
  }
  return b.finish();
}

export function minimaxM2(dimensions: Dimensions, layers: number): Recipe {
  const d = oneLength(dimensions);
  const b = new RecipeBuilder('minimax-m2');
  common(b, d, layers, { tied: false });
  routed(b, d);
  b.u32({ 'rope.dimension_count': d.headSize / 2, expert_gating_func: SIGMOID });
  b.f32({ 'rope.freq_base': 5_000_000 });
  plainLayers(b, d, layers, {
    afterAttention: (_, __, p) => {
      b.norm(`${p}attn_q_norm`, d.heads * d.headSize);
      b.norm(`${p}attn_k_norm`, d.headsKv * d.headSize);
    },
    feedForward: (...layer) => {
      experts(...layer);
      b.bias(`${layer[2]}exp_probs_b`, EXPERTS);
    },
  });
  return b.finish();
}

export function hunyuanMoe(dimensions: Dimensions, layers: number): Recipe {
  const d = oneLength(dimensions);
  const b = new RecipeBuilder('hunyuan-moe');
  common(b, d, layers, { tied: true });
  routed(b, d);
  b.u32({ expert_shared_feed_forward_length: d.expertFeedForward, expert_shared_count: 1 });
  b.f32({ 'rope.freq_base': 10_000 });
  plainLayers(b, d, layers, {
    afterAttention: headNorms,
    feedForward: (...layer) => {
      experts(...layer);
      shared(...layer);
    },
  });
  return b.finish();
}
