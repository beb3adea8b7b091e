/**
 * The tensor types of llama.cpp v0.4.0: how many values one block holds and how many bytes it takes.
 * The sizes decide where each tensor ends, so a type that is not in this table makes a file unreadable.
 * Checked against the library's own answers by the engine's tests (`ggml_blck_size`, `ggml_type_size`).
 */

export interface GgmlType {
  /** Number in the file. */
  readonly id: number;
  /** Upper-case name as printed by llama.cpp's tools ('Q4_K', 'F16'). */
  readonly name: string;
  /** Values in a block; a row is a whole number of blocks. */
  readonly blockValues: number;
  readonly blockBytes: number;
}

/** [id, name, values in a block, bytes of a block] */
const ROWS = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [9, 'Q8_1', 32, 36],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [15, 'Q8_K', 256, 292],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74],
  [18, 'IQ3_XXS', 256, 98],
  [19, 'IQ1_S', 256, 50],
  [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110],
  [22, 'IQ2_S', 256, 82],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2],
  [34, 'TQ1_0', 256, 54],
  [35, 'TQ2_0', 256, 66],
  [39, 'MXFP4', 32, 17],
  [40, 'NVFP4', 64, 36],
  [41, 'Q1_0', 128, 18],
  [42, 'Q2_0', 64, 18],
] as const;

export type GgmlTypeName = (typeof ROWS)[number][1];

export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map(
  ROWS.map(([id, name, blockValues, blockBytes]) => [id, { id, name, blockValues, blockBytes }]),
);

const BY_NAME: ReadonlyMap<string, GgmlType> = new Map(
  [...GGML_TYPES.values()].map((type) => [type.name, type]),
);

/** The type of that name; the name is the caller's own, so an unknown one is a fault of ours. */
export function ggmlType(name: GgmlTypeName): GgmlType {
  const type = BY_NAME.get(name);
  if (type === undefined) throw new Error(`no tensor type is called ${name}`);
  return type;
}

/** Bytes of a tensor of that shape (shape[0] is the row length). The caller has checked that rows are whole blocks. */
export function tensorBytes(type: GgmlType, shape: readonly number[]): number {
  return (shape.reduce((product, n) => product * n, 1) / type.blockValues) * type.blockBytes;
}
