/** llama and the dense and sparse qwen models, which differ from it by biases, head norms and experts. */
import {
  common,
  experts,
  headNorms,
  plainLayers,
  RecipeBuilder,
  routed,
  squareHeads,
  type Dimensions,
  type Recipe,
} from '../recipe.ts';

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
  plainLayers(b, d, layers);
  return b.finish();
}

export function qwen2(
  dimensions: Dimensions,
  layers: number,
  options: { readonly tied: boolean; readonly outputBias?: boolean },
): Recipe {
  const d = squareHeads(dimensions);
  const b = new RecipeBuilder('qwen2');
  common(b, d, layers, options);
  b.f32({ 'rope.freq_base': 1_000_000 });
  if (options.outputBias === true) b.bias('output', d.vocabulary);
  plainLayers(b, d, layers, { biases: true });
  return b.finish();
}

export function qwen3(d: Dimensions, layers: number, options: { readonly tied: boolean }): Recipe {
  const b = new RecipeBuilder('qwen3');
  common(b, d, layers, options);
  b.f32({ 'rope.freq_base': 1_000_000 });
  plainLayers(b, d, layers, { afterAttention: headNorms });
  return b.finish();
}

export function qwen3moe(d: Dimensions, layers: number): Recipe {
  const b = new RecipeBuilder('qwen3moe');
  common(b, d, layers, { tied: false });
  routed(b, d);
  b.f32({ 'rope.freq_base': 1_000_000 });
  plainLayers(b, d, layers, { afterAttention: headNorms, feedForward: experts });
  return b.finish();
}
