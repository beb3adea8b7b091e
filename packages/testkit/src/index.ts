export * from './needs.ts';
export * from './models/recipe.ts';
export * from './models/random-model.ts';
export { llama, qwen2, qwen3, qwen3moe } from './models/architectures/llama.ts';
export { deepseek2 } from './models/architectures/deepseek2.ts';
export { gemma3, gptOss } from './models/architectures/windowed.ts';
export { Noise, seedOf } from './models/numbers.ts';
export * from './models/catalog.ts';
export * from './direct-platform.ts';
