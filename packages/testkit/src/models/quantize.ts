/** Quantises by ggml's own code, so that the testkit's files hold what llama.cpp's tools would have written. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { tensorBytes, type GgmlType } from '@minikeep/gguf';
import { REPOSITORY } from '../needs.ts';

type Quantize = (
  type: number,
  source: Float32Array,
  target: Uint8Array,
  start: number,
  rows: number,
  rowLength: number,
  importance: null,
) => number | bigint;

let quantizeChunk: Quantize | undefined;

function load(): Quantize {
  if (quantizeChunk !== undefined) return quantizeChunk;
  const folder = path.join(REPOSITORY, 'dist', 'lib');
  const name = readdirSync(folder).find((file) => /^libggml-base\.(so|dylib)$/.test(file));
  if (name === undefined) throw new Error(`no libggml-base in ${folder}: run \`npm run build\``);
  const library = koffi.load(path.join(folder, name));
  const call = library.func(
    'size_t ggml_quantize_chunk(int type, const float* src, void* dst, int64_t start, int64_t nrows, int64_t n_per_row, void* imatrix)',
  ) as Quantize;
  quantizeChunk = call;
  return call;
}

/** `values` holds whole rows of `rowLength`. */
export function quantize(type: GgmlType, values: Float32Array, rowLength: number): Uint8Array {
  if (type.name === 'F32')
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const rows = values.length / rowLength;
  const target = new Uint8Array(tensorBytes(type, [rowLength, rows]));
  const bytes = Number(load()(type.id, values, target, 0, rows, rowLength, null));
  if (bytes !== target.byteLength)
    throw new Error(`${type.name}: ${bytes} bytes instead of ${target.byteLength}`);
  return target;
}
