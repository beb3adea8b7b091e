/** The bytes of a slice or of a piece of one, in order, one small buffer in memory at a time (`COPY_BYTES`). */
import { MinikeepError } from '@minikeep/protocol';
import { COPY_BYTES } from '../limits.ts';
import type { Model } from '../types.ts';
import { openUnchanged, type UnchangedSource } from '../unchanged.ts';
import { rangeOf, segmentBytes } from './pieces.ts';
import type { Segment } from './types.ts';

/** A slice, a piece, or anything else that is settled byte by byte. */
export interface Planned {
  readonly bytes: number;
  readonly segments: readonly Segment[];
}

/**
 * Yields exactly the planned bytes; the same model and plan give the same bytes. Each buffer is the reader's to keep.
 * Throws `gguf.changed` if a file is no longer the one that was opened, `gguf.truncated` if it ends early, and the
 * signal's reason when aborted.
 */
export async function* sliceStream(
  model: Model,
  plan: Planned,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = new PlanReader(model);
  try {
    for (const segment of plan.segments) {
      if (segment.from === 'memory') {
        signal?.throwIfAborted();
        yield segment.data.slice();
        continue;
      }
      for (let done = 0; done < segment.bytes;) {
        signal?.throwIfAborted();
        const piece = new Uint8Array(Math.min(COPY_BYTES, segment.bytes - done));
        await reader.fill(segment, done, piece);
        done += piece.byteLength;
        yield piece;
      }
    }
    await reader.assertUnchanged();
  } finally {
    await reader.close();
  }
}

/** Reads planned bytes at any place; keeps the model's files open until `close`. */
export class PlanReader {
  readonly #model: Model;
  readonly #open = new Map<number, Promise<UnchangedSource>>();

  constructor(model: Model) {
    this.#model = model;
  }

  /** Bytes from <= i < from + bytes of the plan in a buffer of their own. Throws as `sliceStream`. */
  async read(plan: Planned, from: number, bytes: number): Promise<Uint8Array> {
    const out = new Uint8Array(bytes);
    await this.readInto(plan, from, out);
    return out;
  }

  /** The same into `target`. */
  async readInto(plan: Planned, from: number, target: Uint8Array): Promise<void> {
    const end = from + target.byteLength;
    let at = 0;
    for (const segment of rangeOf(plan.segments, from, end)) {
      const size = segmentBytes(segment);
      await this.fill(segment, 0, target.subarray(at, at + size));
      at += size;
    }
    if (at !== target.byteLength) throw new Error(`bytes up to ${end} of a plan of ${plan.bytes}`);
  }

  /** Fills `target` from `offset` of a segment on. */
  async fill(segment: Segment, offset: number, target: Uint8Array): Promise<void> {
    if (segment.from === 'memory')
      target.set(segment.data.subarray(offset, offset + target.byteLength));
    else if (segment.from === 'file') {
      const source = await this.#source(segment.file);
      const got = await source.read(segment.offset + offset, target);
      if (got < target.byteLength) throw endsEarly(this.#model, segment.file);
    } else target.fill(0);
  }

  /** Throws `gguf.changed` if a file that was read from is not what it was. */
  async assertUnchanged(): Promise<void> {
    for (const source of this.#open.values()) await (await source).assertUnchanged();
  }

  async close(): Promise<void> {
    for (const source of this.#open.values()) await (await source.catch(() => undefined))?.close();
    this.#open.clear();
  }

  #source(index: number): Promise<UnchangedSource> {
    const file = this.#model.files[index];
    if (file === undefined) throw new Error(`the plan names file ${index} of another model`);
    let source = this.#open.get(index);
    if (source === undefined) {
      source = openUnchanged(file);
      this.#open.set(index, source);
    }
    return source;
  }
}

function endsEarly(model: Model, index: number): MinikeepError {
  return new MinikeepError(
    'gguf.truncated',
    `${model.files[index]?.path ?? ''}: the file became shorter`,
    {
      next: 'Wait until whatever writes it is done, then try again.',
    },
  );
}
