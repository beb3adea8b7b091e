/** Writes random models: any recipe in any quantisation, the same bytes for the same seed. */
import { rename, rm } from 'node:fs/promises';
import {
  ggmlType,
  writeGguf,
  type GgmlType,
  type GgmlTypeName,
  type TensorSource,
} from '@minikeep/gguf';
import { Noise, seedOf } from './numbers.ts';
import { quantize } from './quantize.ts';
import type { Recipe, TensorRecipe } from './recipe.ts';
import { noVocabularyKeys, vocabularyKeys } from './vocabulary.ts';

/** 'mixed': several types in one file, as llama.cpp's _M and _S mixtures have them. */
export type Weights = GgmlTypeName | 'mixed';

export interface RandomModelOptions {
  readonly recipe: Recipe;
  readonly weights: Weights;
  readonly seed: number;
  /** Without one the file carries token ids only ('no_vocab'). */
  readonly vocabulary: 'synthetic' | 'none';
}

/** Values made and quantised at a time. */
const PIECE_VALUES = 1 << 18;

/** Writes to `path` (through a temporary name, so that a file that is there is whole). */
export async function writeRandomModel(path: string, options: RandomModelOptions): Promise<void> {
  const { recipe, weights, seed } = options;
  const rows = recipe.tensors.find(({ name }) => name === 'token_embd.weight')?.shape[1] ?? 0;
  const keys = [
    ...recipe.keys,
    ...(options.vocabulary === 'none' ? noVocabularyKeys() : vocabularyKeys(rows)),
  ];
  const tensors = recipe.tensors.map((tensor): TensorSource => {
    const type = typeFor(tensor, weights);
    return { name: tensor.name, shape: tensor.shape, type, data: () => values(tensor, type, seed) };
  });
  const temporary = `${path}.${process.pid}.part`;
  try {
    await writeGguf(temporary, keys, tensors);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

function* values(tensor: TensorRecipe, type: GgmlType, seed: number): Generator<Uint8Array> {
  const rowLength = tensor.shape[0] as number;
  let rows = tensor.shape.slice(1).reduce((product, n) => product * n, 1);
  const noise = new Noise(seedOf(tensor.name, seed));
  const rowsAtOnce = Math.max(1, Math.floor(PIECE_VALUES / rowLength));
  while (rows > 0) {
    const piece = new Float32Array(Math.min(rows, rowsAtOnce) * rowLength);
    noise.writeTo(piece, ...distribution(tensor, rowLength));
    rows -= piece.length / rowLength;
    yield quantize(type, piece, rowLength);
  }
}

/** Mean and deviation: activations stay near 1 through a hundred layers, and attention is far from uniform. */
function distribution(tensor: TensorRecipe, rowLength: number): [number, number] {
  switch (tensor.kind) {
    case 'norm':
      return [1, 0.1];
    case 'vector':
      return [0, 0.1];
    case 'frequencies':
      return [2, 0.3];
    case 'embedding':
      return [0, 0.3];
    case 'router':
    case 'matrix':
      return [0, 1 / Math.sqrt(rowLength)];
  }
}

const F32 = ggmlType('F32');
/** First of these whose blocks fit the row. */
const MIXTURES: readonly [RegExp, readonly GgmlTypeName[]][] = [
  [/^token_embd\./, ['Q8_0']],
  [/^output\./, ['Q6_K', 'Q8_0']],
  [/attn_v|attn_kv_a/, ['F16']],
  [/ffn_down/, ['Q6_K', 'Q5_0']],
  [/attn_output|attn_k/, ['Q5_K', 'Q5_1']],
  [/./, ['Q4_K', 'Q4_0']],
];

function typeFor(tensor: TensorRecipe, weights: Weights): GgmlType {
  if (tensor.kind !== 'matrix' && tensor.kind !== 'embedding') return F32;
  const wanted =
    weights === 'mixed'
      ? (MIXTURES.find(([name]) => name.test(tensor.name))?.[1] ?? [])
      : [weights, 'Q8_0' as const];
  for (const name of wanted) {
    const type = ggmlType(name);
    if ((tensor.shape[0] as number) % type.blockValues === 0) return type;
  }
  return F32;
}
