/**
 * Reads a header forward through one fixed buffer. Every step is checked against the file's end and the header's
 * limit before it is taken, so that no number in the file can make us read or allocate by its own word.
 */
import { fileFault } from './faults.ts';
import { CHUNK_BYTES, HEADER_BYTES_MAX } from './limits.ts';
import type { ByteSource } from './source.ts';

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

export class HeaderCursor {
  readonly source: ByteSource;
  readonly #buffer: Uint8Array;
  readonly #view: DataView;
  /** File offset of the buffer's first byte, and how many bytes of it are valid. */
  #start = 0;
  #filled = 0;
  #at = 0;

  constructor(source: ByteSource) {
    this.source = source;
    this.#buffer = new Uint8Array(Math.min(CHUNK_BYTES, Math.max(source.sizeBytes, 64)));
    this.#view = new DataView(this.#buffer.buffer);
  }

  /** Offset in the file of the next byte. */
  get offset(): number {
    return this.#start + this.#at;
  }

  get remaining(): number {
    return this.source.sizeBytes - this.offset;
  }

  /** True when the next `bytes` are in the buffer: the caller may then use the get methods without waiting. */
  has(bytes: number): boolean {
    return this.#filled - this.#at >= bytes;
  }

  /** Brings the next `bytes` (at most the buffer) into memory, or throws `gguf.truncated`. */
  async need(bytes: number, what: string): Promise<void> {
    if (this.has(bytes)) return;
    this.#checkRoom(bytes, what);
    const offset = this.offset;
    this.#start = offset;
    this.#at = 0;
    this.#filled = await this.source.read(offset, this.#buffer);
    // The file may have shrunk since its size was taken.
    if (this.#filled < bytes) throw this.truncated(what);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  i8(): number {
    return this.#view.getInt8(this.#advance(1));
  }

  i16(): number {
    return this.#view.getInt16(this.#advance(2), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  f32(): number {
    return this.#view.getFloat32(this.#advance(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#advance(8), true);
  }

  /** A u64 that must not be above `max`: counts and lengths. Throws `gguf.limit`. */
  async count(max: number, what: string): Promise<number> {
    if (!this.has(8)) await this.need(8, what);
    const at = this.offset;
    const value = this.u64();
    if (value > BigInt(max))
      throw fileFault(
        'limit',
        this.source.path,
        at,
        `${what}: ${value} is more than the limit of ${max}`,
      );
    return Number(value);
  }

  /** Passes over bytes that are not needed now. */
  skip(bytes: number, what: string): void {
    if (this.has(bytes)) {
      this.#at += bytes;
      return;
    }
    this.#checkRoom(bytes, what);
    this.#start = this.offset + bytes;
    this.#at = 0;
    this.#filled = 0;
  }

  /** Text of a known length. `names` must be valid UTF-8 (throws `gguf.text`), values may be broken. */
  async text(bytes: number, what: string, kind: 'name' | 'value'): Promise<string> {
    const at = this.offset;
    let raw: Uint8Array;
    if (bytes <= this.#buffer.byteLength) {
      await this.need(bytes, what);
      raw = this.#buffer.subarray(this.#at, this.#at + bytes);
      this.#at += bytes;
    } else {
      this.#checkRoom(bytes, what);
      raw = new Uint8Array(bytes);
      if ((await this.source.read(at, raw)) < bytes) throw this.truncated(what);
      this.skip(bytes, what);
    }
    if (kind === 'value') return lenient.decode(raw);
    let text: string;
    try {
      text = strict.decode(raw);
    } catch {
      throw fileFault('text', this.source.path, at, `${what} is not valid UTF-8`);
    }
    if (/\p{Cc}/u.test(text))
      throw fileFault('text', this.source.path, at, `${what} holds control characters`);
    return text;
  }

  truncated(what: string): Error {
    return fileFault(
      'truncated',
      this.source.path,
      this.offset,
      `the file ends inside ${what}`,
      'The download was cut short: fetch the file again and compare its size and SHA-256 with the publisher’s.',
    );
  }

  #advance(bytes: number): number {
    const at = this.#at;
    if (this.#filled - at < bytes)
      throw new Error('a header field was read before it was asked for');
    this.#at = at + bytes;
    return at;
  }

  #checkRoom(bytes: number, what: string): void {
    if (bytes > this.remaining) throw this.truncated(what);
    if (this.offset + bytes > HEADER_BYTES_MAX)
      throw fileFault(
        'limit',
        this.source.path,
        this.offset,
        `the header is larger than ${HEADER_BYTES_MAX} bytes`,
      );
  }
}
