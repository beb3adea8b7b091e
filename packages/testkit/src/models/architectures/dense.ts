/** Dense architectures beyond llama and qwen: mistral3, phi3, olmo2, granite, glm4, smollm3, exaone4, and the Cohere two. */
import {
  attention,
  common,
  feedForward,
  headNorms,
  plainLayers,
  RecipeBuilder,
  squareHeads,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

const WINDOW = 16;

/** The stretch of positions beyond which YaRN and temperatures are at work: far below the prompts' lengths. */
function yarn(b: RecipeBuilder, factor: number): void {
  b.u32({ 'rope.scaling.original_context_length': 16 });
  b.f32({ 'rope.scaling.factor': factor });
  b.text('rope.scaling.type', 'yarn');
}

export function mistral3(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('mistral3');
  common(b, d, layers, { tied: false });
  b.u32({ 'rope.dimension_count': d.headSize });
  b.f32({ 'rope.freq_base': 1_000_000, 'attention.temperature_scale': 0.1 });
  yarn(b, 16);
  plainLayers(b, d, layers);
  return b.finish();
}

export function phi3(dimensions: Dimensions, layers: number): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder('phi3');
  common(b, d, layers, { tied: false });
  b.u32({ 'rope.dimension_count': d.headSize, 'rope.scaling.original_context_length': 16 });
  b.f32({ 'rope.freq_base': 10_000, 'rope.scaling.attn_factor': 1.19 });
  b.add('frequencies', 'rope_factors_long.weight', d.headSize / 2);
  b.add('frequencies', 'rope_factors_short.weight', d.headSize / 2);
  const kv = d.headsKv * d.headSize;
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    b.matrix(`${p}attn_qkv`, d.embedding, d.embedding + 2 * kv);
    b.matrix(`${p}attn_output`, d.embedding, d.embedding);
    b.norm(`${p}ffn_norm`, d.embedding);
    b.matrix(`${p}ffn_up`, d.embedding, 2 * d.feedForward);
    b.matrix(`${p}ffn_down`, d.feedForward, d.embedding);
  }
  return b.finish();
}

/** `window`: OLMo 3, whose full layers alone use YaRN. */
export function olmo2(
  dimensions: Dimensions,
  layers: number,
  options: { readonly window: boolean },
): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder('olmo2');
  common(b, d, layers, { tied: false });
  b.f32({ 'rope.freq_base': 500_000 });
  if (options.window) {
    b.u32({ 'attention.sliding_window': WINDOW });
    yarn(b, 8);
  }
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    attention(b, d, p);
    b.norm(`${p}attn_q_norm`, d.embedding);
    b.norm(`${p}attn_k_norm`, d.headsKv * d.headSize);
    b.norm(`${p}post_attention_norm`, d.embedding);
    feedForward(b, d, p);
    b.norm(`${p}post_ffw_norm`, d.embedding);
  }
  return b.finish();
}

/** The four factors that granite puts on embedding, residual, attention and logits. */
export function graniteScales(b: RecipeBuilder, d: Dimensions): void {
  b.u32({ 'rope.dimension_count': d.headSize });
  b.f32({
    'rope.freq_base': 10_000,
    embedding_scale: 12,
    residual_scale: 0.22,
    'attention.scale': 0.15,
    logit_scale: 4,
  });
}

export function granite(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('granite');
  common(b, d, layers, { tied: true });
  graniteScales(b, d);
  plainLayers(b, d, layers);
  return b.finish();
}

export function glm4(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('glm4');
  common(b, d, layers, { tied: false });
  b.u32({ 'rope.dimension_count': d.headSize / 2 });
  b.f32({ 'rope.freq_base': 10_000 });
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p, true);
    b.norm(`${p}post_attention_norm`, d.embedding);
    b.norm(`${p}ffn_norm`, d.embedding);
    b.matrix(`${p}ffn_up`, d.embedding, 2 * d.feedForward);
    b.matrix(`${p}ffn_down`, d.feedForward, d.embedding);
    b.norm(`${p}post_ffw_norm`, d.embedding);
  }
  return b.finish();
}

export function smollm3(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('smollm3');
  common(b, d, layers, { tied: true });
  b.u32({ 'rope.dimension_count': d.headSize });
  b.f32({ 'rope.freq_base': 5_000_000 });
  plainLayers(b, d, layers);
  return b.finish();
}

/** Without windows (the 1.2B). The 32B's are switched on by its count of 64 layers. */
export function exaone4(dimensions: Dimensions, layers: number): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder('exaone4');
  common(b, d, layers, { tied: true });
  b.u32({ 'rope.dimension_count': d.headSize });
  b.f32({ 'rope.freq_base': 1_000_000 });
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    attention(b, d, p);
    headNorms(b, d, p);
    b.norm(`${p}post_attention_norm`, d.embedding);
    feedForward(b, d, p);
    b.norm(`${p}post_ffw_norm`, d.embedding);
  }
  return b.finish();
}

/** command-r and cohere2: attention and feed-forward side by side, one norm before both. */
export function cohere(
  name: 'command-r' | 'cohere2',
  dimensions: Dimensions,
  layers: number,
): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder(name);
  common(b, d, layers, { tied: true });
  b.f32({ 'attention.layer_norm_epsilon': 1e-5, logit_scale: 0.25, 'rope.freq_base': 50_000 });
  b.u32({ 'rope.dimension_count': d.headSize });
  if (name === 'cohere2') b.u32({ 'attention.sliding_window': WINDOW });
  // The large command-r has norms that its loader looks for only at such counts.
  const norms = name === 'command-r' && layers >= 64;
  for (let i = 0; i < layers; i++) {
    const p = `blk.${i}.`;
    b.norm(`${p}attn_norm`, d.embedding);
    attention(b, d, p);
    if (norms) {
      b.add('norm', `${p}attn_q_norm.weight`, d.headSize, d.heads);
      b.add('norm', `${p}attn_k_norm.weight`, d.headSize, d.headsKv);
    }
    feedForward(b, d, p);
  }
  return b.finish();
}
