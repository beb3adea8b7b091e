/**
 * Lays a GGUF file out without writing it: header bytes, then each tensor's data at its aligned place. Slices and
 * the testkit's models both come from here, so a size is known before a byte is made.
 */
import type { GgmlType } from '../ggml-types.ts';
import { tensorBytes } from '../ggml-types.ts';
import { GGUF_MAGIC } from '../header.ts';
import { ALIGNMENT_DEFAULT } from '../limits.ts';
import type { PiecePlan, Segment } from '../slice/types.ts';
import { piecesOf, segmentBytes } from '../slice/pieces.ts';
import type { ElementType, FileRange, Scalar, ValueType } from '../types.ts';
import { concat, encodeArray, encodeScalar, encodeText, typeNumber, u32, u64 } from './encode.ts';

const GGUF_VERSION = 3;

/** A key with its value, encoded here or left in the source file. */
export interface KeyEntry {
  readonly key: string;
  readonly type: ValueType;
  readonly value: Uint8Array | FileRange;
}

export interface TensorEntry {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  readonly data: Segment;
  /** The piece of the slice that it belongs to; without one, the header's (only before tensors that have one). */
  readonly piece?: string;
}

export interface Layout {
  readonly segments: readonly Segment[];
  readonly bytes: number;
  /** Data of all tensors without padding. */
  readonly tensorBytes: number;
  readonly pieces: readonly PiecePlan[];
}

export const scalarKey = (key: string, type: ElementType, value: Scalar): KeyEntry => ({
  key,
  type,
  value: encodeScalar(type, value),
});

export const arrayKey = (key: string, of: ElementType, values: readonly Scalar[]): KeyEntry => ({
  key,
  type: 'array',
  value: encodeArray(of, values),
});

/** Zeros between one tensor's end and the next one's aligned start. */
export const padding = (bytes: number): number =>
  (ALIGNMENT_DEFAULT - (bytes % ALIGNMENT_DEFAULT)) % ALIGNMENT_DEFAULT;

/** Everything before the tensors' data, padded so that the data may follow. */
export function headerOf(
  keys: readonly KeyEntry[],
  tensors: readonly Omit<TensorEntry, 'data'>[],
): Omit<Layout, 'pieces'> {
  const out = new SegmentList();
  out.memory(u32(GGUF_MAGIC), u32(GGUF_VERSION), u64(tensors.length), u64(keys.length));
  for (const { key, type, value } of keys) {
    out.memory(encodeText(key), u32(typeNumber(type)));
    if (value instanceof Uint8Array) out.memory(value);
    else out.add({ from: 'file', ...value });
  }
  let offset = 0;
  let dataBytes = 0;
  for (const { name, type, shape } of tensors) {
    const bytes = tensorBytes(type, shape);
    out.memory(encodeText(name), u32(shape.length), ...shape.map(u64), u32(type.id), u64(offset));
    offset += bytes + padding(bytes);
    dataBytes += bytes;
  }
  out.memory(new Uint8Array(padding(out.bytes)));
  return { segments: out.finish(), bytes: out.bytes, tensorBytes: dataBytes };
}

/** A whole file: keys and tensors in the given order, alignment 32, every tensor's end padded. */
export function layOut(keys: readonly KeyEntry[], tensors: readonly TensorEntry[]): Layout {
  const header = headerOf(keys, tensors);
  const runs: { name: string | undefined; list: SegmentList }[] = [
    { name: undefined, list: new SegmentList() },
  ];
  for (const segment of header.segments) runs[0]?.list.add(segment);
  for (const { name, type, shape, data, piece } of tensors) {
    const bytes = segmentBytes(data);
    if (bytes !== tensorBytes(type, shape))
      throw new Error(`${name}: ${bytes} bytes of data do not fill the tensor`);
    let run = runs.at(-1);
    if (run === undefined || run.name !== piece) {
      run = { name: piece, list: new SegmentList() };
      runs.push(run);
    }
    run.list.add(data);
    run.list.memory(new Uint8Array(padding(bytes)));
  }
  const finished = runs.map(({ name, list }) => ({ name, segments: list.finish() }));
  return {
    segments: finished.flatMap((run) => run.segments),
    bytes: runs.reduce((sum, { list }) => sum + list.bytes, 0),
    tensorBytes: header.tensorBytes,
    pieces: finished.flatMap((run) => piecesOf(run.name, run.segments)),
  };
}

/** Joins neighbouring pieces of memory, so that a vocabulary's header does not become thousands of segments. */
class SegmentList {
  readonly #segments: Segment[] = [];
  #pending: Uint8Array[] = [];
  bytes = 0;

  memory(...parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      if (part.byteLength === 0) continue;
      this.#pending.push(part);
      this.bytes += part.byteLength;
    }
  }

  add(segment: Segment): void {
    if (segment.from === 'memory') {
      this.memory(segment.data);
      return;
    }
    if (segment.bytes === 0) return;
    this.#flush();
    this.#segments.push(segment);
    this.bytes += segment.bytes;
  }

  finish(): readonly Segment[] {
    this.#flush();
    return this.#segments;
  }

  #flush(): void {
    if (this.#pending.length > 0)
      this.#segments.push({ from: 'memory', data: concat(this.#pending) });
    this.#pending = [];
  }
}
