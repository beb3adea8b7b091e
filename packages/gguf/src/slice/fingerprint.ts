/**
 * A model's digest and those of all pieces that do not depend on where it is cut, from one reading of its files: large
 * models lie on slow disks.
 */
import { createHash } from 'node:crypto';
import { COPY_BYTES } from '../limits.ts';
import type { Model } from '../types.ts';
import { openUnchanged } from '../unchanged.ts';
import { PieceHasher, type PieceDigests } from './chunks.ts';
import { planSlices } from './plan.ts';
import { segmentBytes } from './pieces.ts';
import { sliceStream } from './stream.ts';
import type { PiecePlan } from './types.ts';

export interface Fingerprint {
  /** Of the model's one file, or of all parts in order, lower-case hex: what a publisher's list of digests shows. */
  readonly sha256: string;
  /** By name; empty for a model that can't be deployed. */
  readonly pieces: ReadonlyMap<string, PieceDigests>;
}

/** Layers and tensors of any slice of the model, each once. Throws `gguf.architecture_unsupported`, `slice.*`. */
export function sharedPieces(model: Model): PiecePlan[] {
  return planSlices(model, []).flatMap((slice) => slice.pieces.filter((piece) => piece.shared));
}

/**
 * Hashes every byte. `onProgress` gets bytes done and all bytes. Throws `gguf.changed` if a file is not the one that
 * was opened, and the signal's reason when aborted.
 */
export async function fingerprintModel(
  model: Model,
  pieces: readonly PiecePlan[],
  onProgress?: (doneBytes: number, totalBytes: number) => void,
  signal?: AbortSignal,
): Promise<Fingerprint> {
  const whole = createHash('sha256');
  const waiting = inFileOrder(pieces);
  const digests = new Map<string, PieceDigests>();
  const buffer = new Uint8Array(COPY_BYTES);
  let done = 0;
  for (const [index, file] of model.files.entries()) {
    const source = await openUnchanged(file);
    const feed = new Feed(waiting.get(index) ?? [], (name, digest) => digests.set(name, digest));
    try {
      for (let at = 0; at < file.sizeBytes;) {
        signal?.throwIfAborted();
        const wanted = Math.min(COPY_BYTES, file.sizeBytes - at);
        const got = await source.read(at, buffer.subarray(0, wanted));
        if (got === 0) break;
        const data = buffer.subarray(0, got);
        whole.update(data);
        feed.take(at, data);
        at += got;
        done += got;
        onProgress?.(done, model.sizeBytes);
      }
      await source.assertUnchanged();
    } finally {
      await source.close();
    }
  }
  // Pieces whose tensors lie in another order than in the file, or in several files: few, and read once more.
  for (const piece of pieces)
    if (!digests.has(piece.name)) digests.set(piece.name, await digestPiece(model, piece, signal));
  return { sha256: whole.digest('hex'), pieces: digests };
}

export async function digestPiece(
  model: Model,
  piece: PiecePlan,
  signal?: AbortSignal,
): Promise<PieceDigests> {
  const hasher = new PieceHasher(piece.bytes);
  for await (const data of sliceStream(model, piece, signal)) hasher.update(data);
  return hasher.finish();
}

/** By file: pieces whose bytes come in that file's order, one after the other without overlap. */
function inFileOrder(pieces: readonly PiecePlan[]): Map<number, PiecePlan[]> {
  const starts = (piece: PiecePlan): number =>
    piece.segments.flatMap((s) => (s.from === 'file' ? [s.offset] : []))[0] ?? 0;
  const ends = new Map<number, number>();
  const found = new Map<number, PiecePlan[]>();
  for (const piece of pieces.toSorted((a, b) => starts(a) - starts(b))) {
    const [first] = piece.segments.flatMap((s) => (s.from === 'file' ? [s.file] : []));
    if (first === undefined) continue;
    let end = ends.get(first) ?? 0;
    const ordered = piece.segments.every((segment) => {
      if (segment.from !== 'file') return true;
      const good = segment.file === first && segment.offset >= end;
      end = segment.offset + segment.bytes;
      return good;
    });
    if (!ordered) continue;
    ends.set(first, end);
    found.set(first, [...(found.get(first) ?? []), piece]);
  }
  return found;
}

/** Hands a file's bytes, as they are read, to the pieces that they belong to. */
class Feed {
  readonly #pieces: readonly PiecePlan[];
  readonly #onPiece: (name: string, digests: PieceDigests) => void;
  #piece = 0;
  #segment = 0;
  /** Bytes of the current segment that were handed over. */
  #taken = 0;
  #hasher: PieceHasher | undefined;

  constructor(
    pieces: readonly PiecePlan[],
    onPiece: (name: string, digests: PieceDigests) => void,
  ) {
    this.#pieces = pieces;
    this.#onPiece = onPiece;
  }

  take(at: number, data: Uint8Array): void {
    for (;;) {
      const piece = this.#pieces[this.#piece];
      if (piece === undefined) return;
      this.#hasher ??= new PieceHasher(piece.bytes);
      const segment = piece.segments[this.#segment];
      if (segment === undefined) {
        this.#onPiece(piece.name, this.#hasher.finish());
        this.#hasher = undefined;
        this.#piece += 1;
        this.#segment = 0;
        continue;
      }
      if (segment.from === 'memory') this.#hasher.update(segment.data);
      else if (segment.from === 'zeros') this.#hasher.update(new Uint8Array(segment.bytes));
      else {
        const from = segment.offset + this.#taken - at;
        if (from >= data.byteLength) return;
        const part = data.subarray(from, from + segment.bytes - this.#taken);
        this.#hasher.update(part);
        this.#taken += part.byteLength;
        if (this.#taken < segmentBytes(segment)) return;
        this.#taken = 0;
      }
      this.#segment += 1;
    }
  }
}
