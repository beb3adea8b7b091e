/** Random models by name, made once and kept: tests and the bench ask for the same ones again and again. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { REPOSITORY } from '../needs.ts';
import { deepseek2 } from './architectures/deepseek2.ts';
import { llama, qwen2, qwen3, qwen3moe } from './architectures/llama.ts';
import {
  cohere,
  exaone4,
  glm4,
  granite,
  mistral3,
  olmo2,
  phi3,
  smollm3,
} from './architectures/dense.ts';
import { glm4moe, graniteMoe, hunyuanMoe, minimaxM2, qwen2moe } from './architectures/sparse.ts';
import { gemma2, gemma3, gptOss } from './architectures/windowed.ts';
import { writeRandomModel, type Weights } from './random-model.ts';
import { TINY, type Dimensions, type Recipe } from './recipe.ts';

/** Raise when the generator makes other bytes from the same recipe. */
export const GENERATOR = 2;

export interface NamedModel {
  readonly name: string;
  readonly architecture: string;
  /** Layer counts of published models, smallest first. */
  readonly layers: readonly [number, ...number[]];
  readonly recipe: (dimensions: Dimensions, layers: number) => Recipe;
  /** Sizes that this variant is fixed to; else the caller's. */
  readonly vocabulary?: number;
}

/** deepseek2's loader takes 48 layers for a lite model only with this vocabulary. */
const KANANA_VOCABULARY = 128_256;

/** Every model that the conformance suite covers. */
export const NAMED_MODELS: readonly NamedModel[] = [
  {
    name: 'llama',
    architecture: 'llama',
    layers: [16, 28, 30, 32, 40, 56, 80, 126],
    recipe: (d, n) => llama(d, n, { tied: false, ropeFrequencies: false }),
  },
  {
    name: 'llama-tied',
    architecture: 'llama',
    layers: [16, 28, 30],
    recipe: (d, n) => llama(d, n, { tied: true, ropeFrequencies: false }),
  },
  {
    name: 'llama-rope',
    architecture: 'llama',
    layers: [16, 28, 32, 80, 126],
    recipe: (d, n) => llama(d, n, { tied: false, ropeFrequencies: true }),
  },
  {
    name: 'qwen2',
    architecture: 'qwen2',
    layers: [24, 28, 36, 48, 64, 80],
    recipe: (d, n) => qwen2(d, n, { tied: false }),
  },
  {
    name: 'qwen2-bias',
    architecture: 'qwen2',
    layers: [24, 80],
    recipe: (d, n) => qwen2(d, n, { tied: true, outputBias: true }),
  },
  {
    name: 'qwen3',
    architecture: 'qwen3',
    layers: [28, 36, 40, 64],
    recipe: (d, n) => qwen3(d, n, { tied: n < 40 }),
  },
  {
    name: 'qwen3moe',
    architecture: 'qwen3moe',
    layers: [48, 62, 94],
    recipe: (d, n) => qwen3moe(d, n),
  },
  {
    name: 'deepseek-v2',
    architecture: 'deepseek2',
    layers: [60],
    recipe: (d, n) => deepseek2(d, n, { dense: 1, lite: false }),
  },
  {
    name: 'deepseek-r1',
    architecture: 'deepseek2',
    layers: [61],
    recipe: (d, n) => deepseek2(d, n, { dense: 3, lite: false, gating: 2 }),
  },
  {
    name: 'kimi',
    architecture: 'deepseek2',
    layers: [61],
    recipe: (d, n) => deepseek2(d, n, { dense: 1, lite: false, gating: 2 }),
  },
  {
    name: 'glm-flash',
    architecture: 'deepseek2',
    layers: [47],
    recipe: (d, n) => deepseek2(d, n, { dense: 1, lite: false, gating: 2 }),
  },
  {
    name: 'deepseek-lite',
    architecture: 'deepseek2',
    layers: [26, 27],
    recipe: (d, n) => deepseek2(d, n, { dense: 1, lite: true }),
  },
  {
    name: 'kanana',
    architecture: 'deepseek2',
    layers: [48],
    vocabulary: KANANA_VOCABULARY,
    recipe: (d, n) => deepseek2(d, n, { dense: 1, lite: true }),
  },
  {
    name: 'gemma3',
    architecture: 'gemma3',
    layers: [18, 26, 34, 48, 62],
    recipe: (d, n) => gemma3(d, n),
  },
  {
    name: 'gpt-oss',
    architecture: 'gpt-oss',
    layers: [24, 36],
    recipe: (d, n) => gptOss(d, n),
  },
  {
    name: 'gemma2',
    architecture: 'gemma2',
    layers: [26, 42, 46],
    recipe: (d, n) => gemma2(d, n),
  },
  {
    name: 'mistral3',
    architecture: 'mistral3',
    layers: [26, 34, 40],
    recipe: (d, n) => mistral3(d, n),
  },
  {
    name: 'qwen2moe',
    architecture: 'qwen2moe',
    layers: [24, 28],
    recipe: (d, n) => qwen2moe(d, n),
  },
  {
    name: 'phi3',
    architecture: 'phi3',
    layers: [32, 40],
    recipe: (d, n) => phi3(d, n),
  },
  {
    name: 'olmo2',
    architecture: 'olmo2',
    layers: [16, 32, 40, 64],
    recipe: (d, n) => olmo2(d, n, { window: false }),
  },
  {
    name: 'olmo3',
    architecture: 'olmo2',
    layers: [32, 64],
    recipe: (d, n) => olmo2(d, n, { window: true }),
  },
  {
    name: 'granite',
    architecture: 'granite',
    layers: [32, 40],
    recipe: (d, n) => granite(d, n),
  },
  {
    name: 'granitemoe',
    architecture: 'granitemoe',
    layers: [24, 32],
    recipe: (d, n) => graniteMoe(d, n),
  },
  {
    name: 'glm4',
    architecture: 'glm4',
    layers: [40, 61],
    recipe: (d, n) => glm4(d, n),
  },
  {
    name: 'glm4moe',
    architecture: 'glm4moe',
    layers: [46, 48, 92],
    recipe: (d, n) => glm4moe(d, n, { dense: n === 92 ? 3 : 1, headNorms: n === 92 }),
  },
  {
    name: 'minimax-m2',
    architecture: 'minimax-m2',
    layers: [62],
    recipe: (d, n) => minimaxM2(d, n),
  },
  {
    name: 'command-r',
    architecture: 'command-r',
    layers: [40],
    recipe: (d, n) => cohere('command-r', d, n),
  },
  {
    name: 'cohere2',
    architecture: 'cohere2',
    layers: [32, 64],
    recipe: (d, n) => cohere('cohere2', d, n),
  },
  {
    name: 'exaone4',
    architecture: 'exaone4',
    layers: [30],
    recipe: (d, n) => exaone4(d, n),
  },
  {
    name: 'smollm3',
    architecture: 'smollm3',
    layers: [36],
    recipe: (d, n) => smollm3(d, n),
  },
  {
    name: 'hunyuan-moe',
    architecture: 'hunyuan-moe',
    layers: [32],
    recipe: (d, n) => hunyuanMoe(d, n),
  },
];

export function namedModel(name: string): NamedModel {
  const found = NAMED_MODELS.find((model) => model.name === name);
  if (found === undefined)
    throw new Error(
      `no random model is called ${name}; there are ${NAMED_MODELS.map((m) => m.name).join(', ')}`,
    );
  return found;
}

export interface RandomModelRequest {
  readonly weights?: Weights;
  /** Default: the first published count. */
  readonly layers?: number;
  readonly dimensions?: Dimensions;
  readonly seed?: number;
  readonly vocabulary?: 'synthetic' | 'none';
  /** Default: a cache inside the checkout. */
  readonly folder?: string;
}

/** Path of a random model of that name, made if it is not there yet. */
export function randomModelFile(name: string, request: RandomModelRequest = {}): Promise<string> {
  const model = namedModel(name);
  const sized = { ...(request.dimensions ?? TINY) };
  const dimensions = { ...sized, vocabulary: model.vocabulary ?? sized.vocabulary };
  const layers = request.layers ?? model.layers[0];
  return recipeFile(`${name}-${layers}`, model.recipe(dimensions, layers), request);
}

/** Sizes of Qwen2.5-0.5B: what the bench measures with. */
export const HALF_BILLION: Dimensions = {
  embedding: 896,
  heads: 14,
  headsKv: 2,
  headSize: 64,
  feedForward: 4864,
  expertFeedForward: 0,
  vocabulary: 151_936,
};

/** A random qwen2 of 0.5 B, 24 layers, Q8_0: 0.5 GB, made in pieces. */
export function benchModelFile(request: Pick<RandomModelRequest, 'folder'> = {}): Promise<string> {
  const recipe = qwen2(HALF_BILLION, 24, { tied: true });
  return recipeFile('qwen2-0.5b', recipe, { ...request, weights: 'Q8_0' });
}

/** Writes a recipe under a name that says all that its bytes depend on. */
export async function recipeFile(
  name: string,
  recipe: Recipe,
  request: RandomModelRequest,
): Promise<string> {
  const { weights = 'F32', seed = 1, vocabulary = 'synthetic' } = request;
  const folder =
    request.folder ?? path.join(REPOSITORY, 'node_modules', '.cache', 'minikeep-models');
  const hash = createHash('sha256');
  hash.update(JSON.stringify([GENERATOR, weights, seed, vocabulary, recipe.tensors]));
  for (const { key, type, value } of recipe.keys) {
    hash.update(`${key}\n${type}\n`);
    if (value instanceof Uint8Array) hash.update(value);
  }
  const digest = hash.digest('hex').slice(0, 12);
  const file = path.join(folder, `${name}-${weights}-${digest}.gguf`);
  if (existsSync(file)) return file;
  await mkdir(folder, { recursive: true });
  await writeRandomModel(file, { recipe, weights, seed, vocabulary });
  return file;
}
