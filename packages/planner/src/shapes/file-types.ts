/**
 * Which type each tensor has in a file that llama.cpp's quantiser made with its standard mixtures and without an
 * importance matrix. Compared, tensor by tensor, with the library's own dry run (test/quantiser.test.ts).
 */
import { ggmlType, type GgmlType, type GgmlTypeName } from '@minikeep/gguf';
import type { Shape, ShapeTensor } from './shape.ts';

/** `llama_ftype` of llama.h; the name people give the file. */
export const FILE_TYPES = {
  F32: 0,
  F16: 1,
  BF16: 32,
  Q8_0: 7,
  Q6_K: 18,
  Q5_K_M: 17,
  Q5_K_S: 16,
  Q4_K_M: 15,
  Q4_K_S: 14,
  Q4_0: 2,
  Q3_K_L: 13,
  Q3_K_M: 12,
  Q3_K_S: 11,
  Q2_K: 10,
  MXFP4: 38,
} as const;

export type FileType = keyof typeof FILE_TYPES;

/** Largest first. */
export const FILE_TYPE_NAMES = Object.keys(FILE_TYPES) as readonly FileType[];

/** Those that nearly every model is published in, largest first: what a plan suggests instead of one that is too large. */
export const PUBLISHED_OFTEN: readonly FileType[] = [
  'BF16',
  'Q8_0',
  'Q6_K',
  'Q5_K_M',
  'Q4_K_M',
  'Q3_K_M',
  'Q2_K',
];

const BASE: Readonly<Record<FileType, GgmlTypeName>> = {
  F32: 'F32',
  F16: 'F16',
  BF16: 'BF16',
  Q8_0: 'Q8_0',
  Q6_K: 'Q6_K',
  Q5_K_M: 'Q5_K',
  Q5_K_S: 'Q5_K',
  Q4_K_M: 'Q4_K',
  Q4_K_S: 'Q4_K',
  Q4_0: 'Q4_0',
  Q3_K_L: 'Q3_K',
  Q3_K_M: 'Q3_K',
  Q3_K_S: 'Q3_K',
  Q2_K: 'Q2_K',
  MXFP4: 'Q8_0',
};

/** For rows that are no whole number of blocks. */
const FALLBACK: Readonly<Partial<Record<GgmlTypeName, GgmlTypeName>>> = {
  Q2_K: 'Q4_0',
  Q3_K: 'Q4_0',
  Q4_K: 'Q5_0',
  Q5_K: 'Q5_1',
  Q6_K: 'Q8_0',
};

export function typeOf(tensor: ShapeTensor, shape: Shape, fileType: FileType): GgmlType {
  if (tensor.kind === 'plain') return ggmlType('F32');
  const wanted = wantedType(tensor, shape, fileType);
  const type = ggmlType(wanted);
  if ((tensor.shape[0] ?? 0) % type.blockValues === 0) return type;
  const fallback = ggmlType(FALLBACK[wanted] ?? 'F16');
  return (tensor.shape[0] ?? 0) % fallback.blockValues === 0 ? fallback : ggmlType('F16');
}

function wantedType(tensor: ShapeTensor, shape: Shape, fileType: FileType): GgmlTypeName {
  const base = BASE[fileType];
  if (!base.endsWith('_K') && fileType !== 'Q4_0')
    return fileType === 'MXFP4' && tensor.name.includes('_exps') ? 'MXFP4' : base;
  const { name } = tensor;
  if (name === 'output.weight' || (name === 'token_embd.weight' && shape.tied === true))
    return (tensor.shape[0] ?? 0) % 256 === 0 ? 'Q6_K' : 'Q8_0';
  if (name.includes('.attn_v.')) return valueType(tensor, shape, fileType);
  if (name.includes('.ffn_down')) return downType(tensor, shape, fileType);
  if (name.includes('.attn_output.'))
    return ({ Q2_K: 'Q3_K', Q3_K_M: 'Q4_K', Q3_K_L: 'Q5_K' } as const)[fileType as 'Q2_K'] ?? base;
  return base;
}

/** The first and the last eighth of the layers, and every third between them. */
function moreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

function valueType({ layer }: ShapeTensor, shape: Shape, fileType: FileType): GgmlTypeName {
  const blocks = shape.layers + (shape.mtpBlocks ?? 0);
  const base = ((): GgmlTypeName => {
    switch (fileType) {
      case 'Q2_K':
        return shape.heads / shape.headsKv >= 4 ? 'Q4_K' : 'Q3_K';
      case 'Q3_K_M':
        return layer < 2 ? 'Q5_K' : 'Q4_K';
      case 'Q3_K_L':
        return 'Q5_K';
      case 'Q4_K_S':
        return layer < 4 ? 'Q5_K' : 'Q4_K';
      case 'Q4_K_M':
      case 'Q5_K_M':
        return moreBits(layer, blocks) ? 'Q6_K' : BASE[fileType];
      default:
        return BASE[fileType];
    }
  })();
  // llama.cpp spends more on the values of 70 B models, where eight heads share them.
  const is70b = shape.layers === 80 && shape.heads !== shape.headsKv;
  return is70b && (base === 'Q3_K' || base === 'Q4_K') ? 'Q5_K' : base;
}

function downType({ layer }: ShapeTensor, shape: Shape, fileType: FileType): GgmlTypeName {
  const blocks = shape.layers + (shape.mtpBlocks ?? 0);
  switch (fileType) {
    case 'Q2_K':
      return 'Q3_K';
    case 'Q3_K_M':
      return layer < Math.floor(blocks / 16) ? 'Q5_K' : 'Q4_K';
    case 'Q3_K_L':
      return 'Q5_K';
    case 'Q4_K_S':
      return layer < Math.floor(blocks / 8) ? 'Q5_K' : 'Q4_K';
    case 'Q4_K_M':
    case 'Q5_K_M':
      return moreBits(layer, blocks) ? 'Q6_K' : BASE[fileType];
    default:
      return BASE[fileType];
  }
}
