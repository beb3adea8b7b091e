/** The architectures that minikeep can split. A new one is a new row, and its model in the conformance suite. */
import type { ArchitectureRow } from './row.ts';
import { refuseDeepseek2Length, deepseek2Keys } from './deepseek2.ts';

/** Hidden rows go in as `llama_batch.embd`. */
const EMBD = { mode: 'embd', node: 'embd', positionsPerRow: 1 } as const;

/** Rows are written over the node that feeds layer 0: the graph refuses or misreads rows of ours. */
const OVERWRITE = { mode: 'overwrite', node: 'embd', positionsPerRow: 1 } as const;

const ROWS: readonly ArchitectureRow[] = [
  {
    name: 'llama',
    models: 'Llama, Mistral, Mixtral, SmolLM2',
    publishedLayers: [16, 28, 30, 32, 40, 56, 80, 126],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'qwen2',
    models: 'Qwen 2 and 2.5',
    publishedLayers: [24, 28, 36, 48, 64, 80],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'qwen3',
    models: 'Qwen 3',
    publishedLayers: [28, 36, 40, 64],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'qwen3moe',
    models: 'Qwen 3 MoE',
    publishedLayers: [48, 62, 94],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'deepseek2',
    models: 'DeepSeek V2, V3, R1, Kimi K2, GLM-4.7-Flash',
    publishedLayers: [26, 27, 47, 48, 60, 61],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    extraKeys: deepseek2Keys,
    refuse: refuseDeepseek2Length,
  },
  {
    name: 'gemma3',
    models: 'Gemma 3',
    publishedLayers: [18, 26, 34, 48, 62],
    input: EMBD,
    rowScale: 'sqrt_embedding_length',
    head: 'fallback',
    window: { defaultPeriod: 6, noneSlides: 'window_zero' },
    attentionScale: { layers: 62 },
  },
  {
    name: 'gpt-oss',
    models: 'gpt-oss',
    publishedLayers: [24, 36],
    input: EMBD,
    rowScale: 'none',
    head: 'required',
    window: { defaultPeriod: 2, noneSlides: 'refuse' },
  },
  {
    name: 'gemma2',
    models: 'Gemma 2',
    publishedLayers: [26, 42, 46],
    input: { ...OVERWRITE, node: 'inp_scaled' },
    rowScale: 'sqrt_embedding_length',
    head: 'fallback',
    window: { defaultPeriod: 2, noneSlides: 'refuse' },
    attentionScale: { layers: 46 },
  },
  {
    name: 'mistral3',
    models: 'Ministral 3',
    publishedLayers: [26, 34, 40],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'qwen2moe',
    models: 'Qwen 1.5 and 2 MoE',
    publishedLayers: [24, 28],
    input: EMBD,
    rowScale: 'none',
    head: 'required',
  },
  {
    name: 'phi3',
    models: 'Phi 3, 3.5 and 4',
    publishedLayers: [32, 40],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'olmo2',
    models: 'OLMo 2 and 3',
    publishedLayers: [16, 32, 40, 64],
    input: EMBD,
    rowScale: 'none',
    head: 'required',
    window: { defaultPeriod: 4, noneSlides: 'window_zero' },
  },
  {
    name: 'granite',
    models: 'Granite',
    publishedLayers: [32, 40],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    firstOnlyKeys: ['embedding_scale'],
  },
  {
    name: 'granitemoe',
    models: 'Granite MoE',
    publishedLayers: [24, 32],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    firstOnlyKeys: ['embedding_scale'],
  },
  {
    name: 'glm4',
    models: 'GLM 4',
    publishedLayers: [40, 61],
    input: OVERWRITE,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'glm4moe',
    models: 'GLM 4.5 and 4.6, Solar Open',
    publishedLayers: [46, 48, 92],
    input: OVERWRITE,
    rowScale: 'none',
    head: 'fallback',
  },
  {
    name: 'minimax-m2',
    models: 'MiniMax M2',
    publishedLayers: [62],
    input: EMBD,
    rowScale: 'none',
    head: 'required',
  },
  {
    name: 'command-r',
    models: 'Command R',
    publishedLayers: [40],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    refuse: ({ layers }) =>
      layers >= 64
        ? 'llama.cpp looks for command-r’s query and key norms only in files of 64 or more layers'
        : undefined,
  },
  {
    name: 'cohere2',
    models: 'Command R7B, Command A',
    publishedLayers: [32, 64],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    window: { defaultPeriod: 4, noneSlides: 'refuse' },
  },
  {
    name: 'exaone4',
    models: 'EXAONE 4',
    publishedLayers: [30],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    refuse: ({ layers }) =>
      layers >= 64
        ? 'llama.cpp switches exaone4’s windows on by the count of 64 layers'
        : undefined,
  },
  {
    name: 'smollm3',
    models: 'SmolLM3',
    publishedLayers: [36],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
    startMultiple: 4,
  },
  {
    name: 'hunyuan-moe',
    models: 'Hunyuan A13B',
    publishedLayers: [32],
    input: EMBD,
    rowScale: 'none',
    head: 'fallback',
  },
];

export const ARCHITECTURES: ReadonlyMap<string, ArchitectureRow> = new Map(
  ROWS.map((row) => [row.name, row]),
);
