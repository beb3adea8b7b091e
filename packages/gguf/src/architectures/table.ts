/** The architectures that minikeep can split. A new one is a new row, and its model in the conformance suite. */
import type { ArchitectureRow } from './row.ts';
import { refuseDeepseek2Length, deepseek2Keys } from './deepseek2.ts';

/** Hidden rows go in as `llama_batch.embd`. */
const EMBD = { mode: 'embd', node: 'embd', positionsPerRow: 1 } as const;

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
];

export const ARCHITECTURES: ReadonlyMap<string, ArchitectureRow> = new Map(
  ROWS.map((row) => [row.name, row]),
);
