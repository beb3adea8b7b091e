/** Slices made in memory, and sources of their pieces that can be told to fail. */
import { randomBytes } from 'node:crypto';
import {
  DIGEST_BYTES,
  PIECE_CHUNK_BYTES,
  PieceHasher,
  pieceDigest,
  sliceDigest,
} from '@minikeep/gguf';
import { assembleSlice, type Assembled, type Source } from '../src/assemble-slice.ts';
import type { Piece } from '../src/manifest.ts';
import type { SliceStore } from '../src/slice-store.ts';

export interface TestPiece extends Piece {
  readonly data: Buffer;
  readonly chunks: Uint8Array;
}

export function testPiece(data: Buffer): TestPiece {
  const hasher = new PieceHasher(data.byteLength);
  hasher.update(data);
  const digests = hasher.finish();
  const digest = Buffer.from(pieceDigest(digests)).toString('hex');
  return { data, digest, bytes: data.byteLength, chunks: digests.chunks };
}

/** A slice of random pieces of these sizes. */
export class TestSlice {
  readonly pieces: readonly TestPiece[];
  readonly digest: string;
  readonly data: Buffer;

  constructor(pieces: readonly (TestPiece | number)[]) {
    this.pieces = pieces.map((p) => (typeof p === 'number' ? testPiece(randomBytes(p)) : p));
    this.digest = sliceDigest(this.pieces);
    this.data = Buffer.concat(this.pieces.map((piece) => piece.data));
  }
}

export interface Faults {
  /** Ends with this error once so many bytes of chunks were sent, over all pieces. */
  readonly breakAfterBytes?: number;
  readonly error?: Error;
  /** Changes a chunk of every piece, or its list of digests. */
  readonly damage?: 'chunk' | 'digests' | 'short';
  /** Called before each chunk, with its position in the piece. */
  readonly onChunk?: (chunk: number) => Promise<void> | void;
}

/** Has every piece of the slice. Counts what it sent. */
export class TestSource implements Source {
  readonly name: string;
  readonly pieces: ReadonlySet<number>;
  sentBytes = 0;
  readonly #slice: TestSlice;
  readonly #faults: Faults;

  constructor(slice: TestSlice, faults: Faults = {}, name = 'node peer') {
    this.#slice = slice;
    this.#faults = faults;
    this.name = name;
    this.pieces = new Set(slice.pieces.keys());
  }

  async *fetch(piece: Piece, first: number, count: number): AsyncGenerator<Uint8Array> {
    const { breakAfterBytes = Infinity, error, damage, onChunk } = this.#faults;
    const found = this.#slice.pieces.find(({ digest }) => digest === piece.digest);
    if (found === undefined) throw new Error('asked for a piece of another slice');
    const digests = found.chunks.slice();
    if (damage === 'digests') digests[3]! ^= 1;
    yield digests;
    const end = Math.min(found.chunks.byteLength / DIGEST_BYTES, first + count);
    for (let chunk = first; chunk < end; chunk++) {
      await onChunk?.(chunk);
      if (this.sentBytes >= breakAfterBytes) throw error ?? new Error('connection lost');
      const at = chunk * PIECE_CHUNK_BYTES;
      const data = Buffer.from(found.data.subarray(at, at + PIECE_CHUNK_BYTES));
      if (damage === 'chunk' && chunk === end - 1) data[0]! ^= 1;
      this.sentBytes += data.byteLength;
      yield damage === 'short' ? data.subarray(1) : data;
    }
  }
}

/** What an agent does to have a slice: pinned if it is there, else put together. */
export async function bring(
  store: SliceStore,
  deployment: string,
  slice: TestSlice,
  sources: readonly Source[] = [new TestSource(slice)],
  signal: AbortSignal = new AbortController().signal,
  failures: string[] = [],
): Promise<Assembled> {
  if (await store.pin(deployment, slice.digest))
    return { bytes: slice.data.byteLength, receivedBytes: 0 };
  let done = 0;
  const assembled = await assembleSlice({
    store,
    deployment,
    slice: slice.digest,
    pieces: slice.pieces,
    sources,
    signal,
    onProgress(bytes) {
      if (bytes <= done) throw new Error('progress that goes back');
      done = bytes;
    },
    onSourceFailed: ({ name }, error) => failures.push(`${name}: ${error.code}`),
  });
  if (done !== slice.data.byteLength) throw new Error(`${done} bytes of progress`);
  return assembled;
}
