/**
 * Parses one GGUF file's header: keys and values, then the tensors' names, shapes, types and places.
 * Trusts nothing; what it returns was checked against the file's real size. Format: GGUF versions 2 and 3,
 * little-endian (the layout is described in ggml's docs/gguf.md).
 */
import { HeaderCursor } from './cursor.ts';
import { fileFault, printable } from './faults.ts';
import * as limits from './limits.ts';
import type { ByteSource } from './source.ts';
import { parseTensors } from './tensors.ts';
import type { ArrayValue, ElementType, MetadataValue, Scalar, TensorInfo } from './types.ts';
import { SCALAR_TYPES } from './types.ts';

export const GGUF_MAGIC = 0x46554747; // 'GGUF'
const VERSION_MIN = 2;
const VERSION_MAX = 3;
/** Smallest possible key-value (length, one letter, type, one byte) and tensor record. */
const KEY_BYTES_LEAST = 8 + 1 + 4 + 1;
const TENSOR_BYTES_LEAST = 8 + 1 + 4 + 8 + 4 + 8;
/** What one value costs in memory at least, whatever its width in the file. */
const VALUE_BYTES_HELD = 16;
const STRING_TYPE = SCALAR_TYPES.indexOf('string');
const ARRAY_TYPE = SCALAR_TYPES.indexOf('array');

export interface Header {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: readonly TensorInfo[];
  readonly alignment: number;
  /** Where the tensors' data begins. */
  readonly dataOffset: number;
}

/** Parses and checks a header. `file` is the index that ranges and tensors carry. Throws `gguf.*`, nothing else. */
export async function parseHeader(source: ByteSource, file = 0): Promise<Header> {
  if (source.sizeBytes === 0)
    throw fileFault('empty', source.path, 0, 'the file is empty', 'Fetch the file again.');
  const cursor = new HeaderCursor(source);
  await cursor.need(4, 'its first four bytes');
  if (cursor.u32() !== GGUF_MAGIC)
    throw fileFault(
      'not_gguf',
      source.path,
      0,
      'this is not a GGUF file',
      'Name a .gguf file; other formats have to be converted with llama.cpp’s tools first.',
    );
  await cursor.need(20, 'its header');
  const version = checkVersion(source, cursor.u32());
  const tensorCount = await cursor.count(limits.TENSORS_MAX, 'the number of tensors');
  const keyCount = await cursor.count(limits.KEYS_MAX, 'the number of keys');
  if (tensorCount * TENSOR_BYTES_LEAST + keyCount * KEY_BYTES_LEAST > cursor.remaining)
    throw fileFault(
      'truncated',
      source.path,
      8,
      `the file is too small for the ${tensorCount} tensors and ${keyCount} keys that it announces`,
    );
  const metadata = await new ValueReader(cursor, file).keys(keyCount);
  const alignment = alignmentOf(source, metadata);
  const { tensors, dataOffset } = await parseTensors(cursor, tensorCount, alignment, file);
  return { version, metadata, tensors, alignment, dataOffset };
}

function checkVersion(source: ByteSource, version: number): number {
  if (version >= VERSION_MIN && version <= VERSION_MAX) return version;
  const next = 'Convert the file with a current llama.cpp (gguf-py).';
  if ((version & 0xffff) === 0)
    throw fileFault('endianness', source.path, 4, 'the file is big-endian', next);
  throw fileFault('version', source.path, 4, `GGUF version ${version} is not supported`, next);
}

function alignmentOf(source: ByteSource, metadata: ReadonlyMap<string, MetadataValue>): number {
  const entry = metadata.get('general.alignment');
  if (entry === undefined) return limits.ALIGNMENT_DEFAULT;
  const value = entry.type === 'uint32' ? Number(entry.value) : 0;
  if (value < 1 || value > limits.ALIGNMENT_MAX || (value & (value - 1)) !== 0)
    throw fileFault(
      'alignment',
      source.path,
      entry.range.offset,
      `general.alignment must be a power of two up to ${limits.ALIGNMENT_MAX} (uint32)`,
    );
  return value;
}

/** Reads the keys and their values, and keeps count of what is held in memory. */
class ValueReader {
  readonly #cursor: HeaderCursor;
  readonly #file: number;
  #held = 0;

  constructor(cursor: HeaderCursor, file: number) {
    this.#cursor = cursor;
    this.#file = file;
  }

  async keys(count: number): Promise<Map<string, MetadataValue>> {
    const c = this.#cursor;
    const metadata = new Map<string, MetadataValue>();
    for (let i = 0; i < count; i++) {
      const at = c.offset;
      const length = await c.count(limits.KEY_BYTES_MAX, 'the length of a key');
      const key = await c.text(length, 'a key', 'name');
      if (length === 0) throw fileFault('key', c.source.path, at, 'a key is empty');
      if (metadata.has(key))
        throw fileFault('key', c.source.path, at, `the key '${printable(key)}' occurs twice`);
      this.#hold(length, at);
      metadata.set(key, await this.#value(key));
    }
    return metadata;
  }

  async #value(key: string): Promise<MetadataValue> {
    const c = this.#cursor;
    const what = `the value of '${printable(key)}'`;
    await c.need(4, what);
    const at = c.offset;
    const number = c.u32();
    const type = SCALAR_TYPES[number];
    if (type === undefined)
      throw fileFault('value_type', c.source.path, at, `${what} has the unknown type ${number}`);
    const start = c.offset;
    if (type === 'array') return this.#array(what, start);
    const value = await this.#scalar(type, what);
    return { type, value, range: this.#range(start) };
  }

  async #array(what: string, start: number): Promise<ArrayValue> {
    const c = this.#cursor;
    await c.need(4, what);
    const number = c.u32();
    const of = SCALAR_TYPES[number];
    if (of === undefined || number === ARRAY_TYPE)
      throw fileFault(
        'value_type',
        c.source.path,
        start,
        `${what} is a list of ${of === 'array' ? 'lists' : `the unknown type ${number}`}`,
      );
    const type = of as ElementType;
    const count = await c.count(limits.ARRAY_COUNT_MAX, `${what}: the length of the list`);
    const bytesLeast = count * ELEMENT_BYTES[type];
    if (bytesLeast > c.remaining) throw c.truncated(what);
    if (count <= limits.ARRAY_HELD_COUNT_MAX) {
      const value: Scalar[] = [];
      for (let i = 0; i < count; i++) value.push(await this.#scalar(type, what));
      return { type: 'array', of: type, count, value, range: this.#range(start) };
    }
    if (number === STRING_TYPE) await this.#passStrings(count, what);
    else c.skip(bytesLeast, what);
    return { type: 'array', of: type, count, value: undefined, range: this.#range(start) };
  }

  /** Walks a long list of texts without keeping one; a vocabulary has a quarter of a million. */
  async #passStrings(count: number, what: string): Promise<void> {
    const c = this.#cursor;
    for (let i = 0; i < count; i++) {
      if (!c.has(8)) await c.need(8, what);
      const at = c.offset;
      const length = c.u64();
      if (length > BigInt(limits.STRING_BYTES_MAX)) throw this.#tooLong(at, what, length);
      c.skip(Number(length), what);
    }
  }

  async #scalar(type: ElementType, what: string): Promise<Scalar> {
    const c = this.#cursor;
    const width = ELEMENT_BYTES[type];
    if (!c.has(width)) await c.need(width, what);
    const at = c.offset;
    this.#hold(VALUE_BYTES_HELD, at);
    switch (type) {
      case 'uint8':
        return c.u8();
      case 'int8':
        return c.i8();
      case 'uint16':
        return c.u16();
      case 'int16':
        return c.i16();
      case 'uint32':
        return c.u32();
      case 'int32':
        return c.i32();
      case 'float32':
        return c.f32();
      case 'uint64':
        return c.u64();
      case 'int64':
        return c.i64();
      case 'float64':
        return c.f64();
      case 'bool': {
        const byte = c.u8();
        if (byte > 1)
          throw fileFault('value', c.source.path, at, `${what} is neither true nor false`);
        return byte === 1;
      }
      case 'string': {
        const length = c.u64();
        if (length > BigInt(limits.STRING_BYTES_MAX)) throw this.#tooLong(at, what, length);
        this.#hold(Number(length), at);
        return c.text(Number(length), what, 'value');
      }
    }
  }

  #tooLong(at: number, what: string, length: bigint): Error {
    return fileFault(
      'limit',
      this.#cursor.source.path,
      at,
      `${what} is a text of ${length} bytes, more than the limit of ${limits.STRING_BYTES_MAX}`,
    );
  }

  #hold(bytes: number, at: number): void {
    this.#held += bytes;
    if (this.#held > limits.HELD_BYTES_MAX)
      throw fileFault(
        'limit',
        this.#cursor.source.path,
        at,
        `the values are larger than ${limits.HELD_BYTES_MAX} bytes together`,
      );
  }

  #range(start: number): MetadataValue['range'] {
    return { file: this.#file, offset: start, bytes: this.#cursor.offset - start };
  }
}

/** Least bytes of one element in the file (texts: their length field). */
const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  bool: 1,
  string: 8,
  uint64: 8,
  int64: 8,
  float64: 8,
};
