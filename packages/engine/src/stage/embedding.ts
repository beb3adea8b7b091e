/**
 * The token embedding of a split model: the first stage looks rows up itself, so that no slice but the last carries
 * a vocabulary (otherwise llama.cpp makes n_vocab logits a row for nothing). The file is mapped, not read: after the
 * seal nothing can be read at an offset.
 */
import { MinikeepError } from '@minikeep/protocol';
import type { Address } from '../native/abi.ts';
import type { Binding, Pointer } from '../native/binding.ts';
import { copyMemory, mapFile } from '../native/libc.ts';
import { embeddingFacts } from './facts.ts';
import { NEXT } from '../next-steps.ts';

type Convert = (from: Address, to: Pointer, values: number) => void;

export class Embedding {
  readonly rows: number;
  readonly width: number;
  readonly bytes: number;
  readonly #start: Address;
  readonly #rowBytes: bigint;
  readonly #convert: Convert;
  readonly #scale: number;

  private constructor(
    shape: { rows: number; width: number; rowBytes: number; bytes: number },
    start: Address,
    convert: Convert,
    scale: number,
  ) {
    this.rows = shape.rows;
    this.width = shape.width;
    this.bytes = shape.bytes;
    this.#rowBytes = BigInt(shape.rowBytes);
    this.#start = start;
    this.#convert = convert;
    this.#scale = scale;
  }

  /** Maps an embedding slice. Throws `engine.slice_facts`, `engine.embedding_type`, `engine.map_failed`, `gguf.*`. */
  static async open(binding: Binding, file: string): Promise<Embedding> {
    const { tensor, rowScale, fileBytes } = await embeddingFacts(file);
    const [width = 0, rows = 0] = tensor.shape;
    const rowBytes = (width / tensor.type.blockValues) * tensor.type.blockBytes;
    const convert = converter(binding, tensor.type.name);
    const start = mapFile(file, fileBytes) + BigInt(tensor.offset);
    const shape = { rows, width, rowBytes, bytes: tensor.bytes };
    return new Embedding(shape, start, convert, Math.fround(rowScale));
  }

  /** Writes the rows of `tokens` to `to`, [tokens.length, width] f32. Throws `engine.token`. */
  lookUp(tokens: Int32Array, to: Float32Array): void {
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i] ?? -1;
      if (token < 0 || token >= this.rows)
        throw new MinikeepError('engine.token', `token ${token}: the vocabulary has ${this.rows}`, {
          next: NEXT.tokenizeAlike,
        });
      const row = to.subarray(i * this.width, (i + 1) * this.width);
      this.#convert(this.#start + BigInt(token) * this.#rowBytes, row, this.width);
    }
    const scale = this.#scale;
    // Storing into a Float32Array rounds the product to f32, as the whole model's own graph does.
    if (scale !== 1)
      for (let i = 0; i < tokens.length * this.width; i++) to[i] = (to[i] ?? 0) * scale;
  }
}

function converter(binding: Binding, type: string): Convert {
  if (type === 'F32') return (from, to, values) => void copyMemory(to, from, values * 4);
  // ggml spells its functions in lower case, but keeps the K of Q4_K.
  const name =
    type === 'F16'
      ? 'ggml_fp16_to_fp32_row'
      : type === 'BF16'
        ? 'ggml_bf16_to_fp32_row'
        : `dequantize_row_${type.toLowerCase().replace(/_k$/, '_K')}`;
  try {
    return binding.base.func(name, 'void', ['void*', 'void*', 'int64']);
  } catch (cause) {
    throw new MinikeepError('engine.embedding_type', `the token embedding has the type ${type}`, {
      next: NEXT.quantiseEmbedding,
      cause,
    });
  }
}
