/** Small GGUF files in memory for the tests of this package, and raw pieces to build broken ones from. */
import { ggmlType, layOut, type GgmlTypeName, type KeyEntry, type Scalar } from '../src/index.ts';
import { concat, encodeText, u32, u64 } from '../src/write/encode.ts';
import { arrayKey, scalarKey } from '../src/write/layout.ts';
import type { ElementType } from '../src/types.ts';

export { arrayKey, concat, encodeText, scalarKey, u32, u64 };

export interface TestTensor {
  readonly name: string;
  readonly type: GgmlTypeName;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A tensor whose bytes count up from `start`, so that every one can be told from the others. */
export function tensor(
  name: string,
  shape: readonly number[],
  start = 0,
  type: GgmlTypeName = 'F32',
): TestTensor {
  const { blockValues, blockBytes } = ggmlType(type);
  const bytes = (shape.reduce((product, n) => product * n, 1) / blockValues) * blockBytes;
  const data = Uint8Array.from({ length: bytes }, (_, i) => (start * 31 + i * 7) & 0xff);
  return { name, type, shape, data };
}

/** A complete file. */
export function makeFile(keys: readonly KeyEntry[], tensors: readonly TestTensor[]): Uint8Array {
  const layout = layOut(
    keys,
    tensors.map(({ name, type, shape, data }) => ({
      name,
      type: ggmlType(type),
      shape,
      data: { from: 'memory', data },
    })),
  );
  return concat(
    layout.segments.map((s) => (s.from === 'memory' ? s.data : new Uint8Array(s.bytes))),
  );
}

export const key = scalarKey;

export const list = (name: string, of: ElementType, values: readonly Scalar[]): KeyEntry =>
  arrayKey(name, of, values);

/** A tensor record by hand: any number may be wrong. */
export function record(
  name: string,
  shape: readonly (number | bigint)[],
  type: number,
  offset: bigint | number,
): Uint8Array {
  return concat([encodeText(name), u32(shape.length), ...shape.map(big), u32(type), big(offset)]);
}

/** u64 of any value. */
export function big(value: number | bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

export const magic = u32(0x46554747);

/** Header start with the counts of the caller's choice. */
export const start = (tensors: number | bigint, keys: number | bigint, version = 3): Uint8Array =>
  concat([magic, u32(version), big(tensors), big(keys)]);

/** Keys and tensors of a complete tiny llama, to be cut. */
export function tinyLlama(layers: number): { keys: KeyEntry[]; tensors: TestTensor[] } {
  const keys = [
    key('general.architecture', 'string', 'llama'),
    key('general.name', 'string', 'tiny'),
    key('llama.block_count', 'uint32', layers),
    key('llama.embedding_length', 'uint32', 8),
    list(
      'llama.feed_forward_length',
      'uint32',
      Array.from({ length: layers }, (_, i) => 16 + i),
    ),
    list('llama.rope.dimension_sections', 'uint32', [1, 2, 3, 4]),
    key('llama.vocab_size', 'uint32', 40),
    key('tokenizer.ggml.model', 'string', 'llama'),
    list(
      'tokenizer.ggml.tokens',
      'string',
      Array.from({ length: 40 }, (_, i) => `t${i}`),
    ),
    key('tokenizer.chat_template', 'string', '{{ messages }}'),
  ];
  const tensors = [
    tensor('token_embd.weight', [8, 40], 1),
    tensor('output_norm.weight', [8], 2),
    tensor('output.weight', [8, 40], 3, 'F16'),
    tensor('rope_freqs.weight', [4], 4),
  ];
  for (let i = 0; i < layers; i++)
    tensors.push(
      tensor(`blk.${i}.attn_norm.weight`, [8], 10 + i),
      tensor(`blk.${i}.ffn_up.weight`, [8, 16 + i], 50 + i, 'F16'),
    );
  return { keys, tensors };
}

/** The repeats of a property test: few in CI, many in `npm run test:long`. */
export function repeats(ci: number, long: number): number {
  return process.env['MINIKEEP_LONG'] === '1' ? long : ci;
}

/** A seed that is printed, so that a failure can be had again with MINIKEEP_SEED. */
export function seed(name: string): number {
  const given = process.env['MINIKEEP_SEED'];
  const value = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  process.stderr.write(`${name}: seed ${value} (MINIKEEP_SEED=${value} repeats it)\n`);
  return value;
}
