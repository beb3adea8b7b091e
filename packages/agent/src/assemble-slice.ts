/**
 * Puts a slice together: chunks that an earlier attempt left, pieces of other slices on this disk, and what the sources
 * send. Every chunk is checked before it counts, wherever it came from, and stays when the rest fails.
 */
import { constants } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { setTimeout as setTimer } from 'node:timers/promises';
import {
  DIGEST_BYTES,
  PIECE_CHUNK_BYTES,
  WindowWriter,
  chunkBytes,
  chunkCount,
  chunkDigest,
  chunkDigestAside,
} from '@minikeep/gguf';
import { MinikeepError, RECONNECT_MS, toMinikeepError } from '@minikeep/protocol';
import { ConnectionFault } from '@minikeep/protocol/rpc';
import { ChunkChecks, giveBack } from './chunk-checks.ts';
import { Flusher } from './flusher.ts';
import { manifestLine, provesPiece, type Piece } from './manifest.ts';
import type { HeldPiece, SliceStore } from './slice-store.ts';
import { codeOf, rejected } from './store-faults.ts';

/** Between two attempts to reach a source. */
const RETRY_MS = 500;

/** Where pieces come from over the network. */
export interface Source {
  /** As it is called in messages. */
  readonly name: string;
  /** Positions in the slice's pieces of those that it has. */
  readonly pieces: ReadonlySet<number>;
  /** The digests of the piece's chunks, then `count` chunks from `first` on. Throws when it breaks off. */
  fetch(piece: Piece, first: number, count: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface AssembleOptions {
  readonly store: SliceStore;
  readonly deployment: string;
  readonly slice: string;
  readonly pieces: readonly Piece[];
  readonly sources: readonly Source[];
  readonly signal: AbortSignal;
  /** Bytes verified and in place so far. */
  onProgress(doneBytes: number): void;
  /** For a source that can't be reached, when nobody else has the piece. */
  readonly patienceMs?: number;
  onSourceFailed(source: Source, error: MinikeepError): void;
}

export interface Assembled {
  readonly bytes: number;
  /** Came over the network now. */
  readonly receivedBytes: number;
}

/** Throws `store.*`, the last source's error, the signal's reason; what was verified by then is kept. */
export async function assembleSlice(options: AssembleOptions): Promise<Assembled> {
  const { store, slice, pieces } = options;
  const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  const keeper = `assembling.${slice}`;
  try {
    const { part, held } = await claim(options, keeper, bytes);
    const work = new Assembly(options, part, held);
    try {
      await work.run();
    } catch (error) {
      const known = await store.explained(error, bytes);
      // A disk that is full stays full for everybody if the half of a slice stays on it.
      if (known !== error || codeOf(error) === 'ENOSPC') await rm(part, { force: true });
      throw known;
    }
    return { bytes, receivedBytes: work.receivedBytes };
  } finally {
    await store.unpin(keeper);
  }
}

/** The part to write, and pieces on this disk, which are pinned; unless room is only to be had without them. */
async function claim(
  { store, slice, pieces }: AssembleOptions,
  keeper: string,
  bytes: number,
): Promise<{ part: string; held: ReadonlyMap<string, HeldPiece> }> {
  const held = await store.held(new Set(pieces.map((piece) => piece.digest)));
  for (const name of new Set([...held.values()].map(({ slice: from }) => from)))
    await store.pin(keeper, name);
  try {
    return { part: await store.claimPart(slice, bytes), held };
  } catch (error) {
    if (held.size === 0 || !(error instanceof MinikeepError) || error.code !== 'store.disk_full')
      throw error;
    await store.unpin(keeper);
    return { part: await store.claimPart(slice, bytes), held: new Map() };
  }
}

class Assembly {
  readonly #options: AssembleOptions;
  readonly #part: string;
  readonly #held: ReadonlyMap<string, HeldPiece>;
  /** Sources that failed are not asked again; those whose connection broke, only when there is no other. */
  readonly #failed = new Set<Source>();
  readonly #broken = new Set<Source>();
  #doneBytes = 0;
  #onWritten: (bytes: number) => void = () => {};
  receivedBytes = 0;

  constructor(options: AssembleOptions, part: string, held: ReadonlyMap<string, HeldPiece>) {
    this.#options = options;
    this.#part = part;
    this.#held = held;
  }

  async run(): Promise<void> {
    const { store, deployment, slice, pieces } = this.#options;
    const manifest = this.#part.replace(/part$/, 'pieces');
    // Not emptied: a part that was left is gone on with.
    const handle = await open(this.#part, constants.O_RDWR | constants.O_CREAT, 0o600);
    const list = await open(manifest, 'w', 0o600);
    const writer = new WindowWriter(handle);
    const flusher = new Flusher(handle);
    this.#onWritten = (bytes) => flusher.written(bytes);
    try {
      await list.write(manifestLine(pieces));
      const { size } = await handle.stat();
      let offset = 0;
      for (const index of pieces.keys()) {
        const digests = await this.#piece({ handle, writer, size }, index, offset);
        await list.write(digests);
        offset += pieces[index]?.bytes ?? 0;
      }
      await writer.flush();
      // An earlier attempt's file can't be longer, unless somebody else wrote to it.
      await flusher.end();
      await handle.truncate(offset);
      await handle.chmod(0o400);
      await handle.sync();
      await list.sync();
      await store.finishPart(deployment, slice, this.#part, manifest);
    } finally {
      // What was verified stays for the next attempt.
      await writer.flush().catch(() => {});
      await flusher.end().catch(() => {});
      await handle.close();
      await list.close();
      await rm(manifest, { force: true });
    }
  }

  /** Brings one piece into place; returns the digests of its chunks. */
  async #piece(part: Part, index: number, offset: number): Promise<Uint8Array> {
    const { size } = part;
    const piece = this.#options.pieces[index];
    if (piece === undefined) throw new Error('a piece beyond the last');
    const target = new PieceTarget(part, piece, offset, (bytes) => {
      this.#doneBytes += bytes;
      this.#onWritten(bytes);
      this.#options.onProgress(this.#doneBytes);
    });
    const held = this.#held.get(piece.digest);
    if (held !== undefined) {
      const digests = await this.#options.store.chunkDigests(held);
      if (digests !== undefined) {
        target.digests = digests;
        await target.keep(size, this.#options.signal);
        await this.#copy(target, held);
        if (target.next === undefined) return digests;
      }
    }
    let last: MinikeepError | undefined;
    const sources = this.#options.sources.filter(
      (source) => source.pieces.has(index) && !this.#failed.has(source),
    );
    const inTurn = [
      ...sources.filter((source) => !this.#broken.has(source)),
      ...sources.filter((source) => this.#broken.has(source)),
    ];
    for (const [i, source] of inTurn.entries()) {
      const patient = i === inTurn.length - 1;
      try {
        await (patient ? this.#insist(target, source, size) : this.#fetch(target, source, size));
        if (target.next !== undefined) throw rejected(`${source.name} sent too little`);
        if (target.digests !== undefined) return target.digests;
      } catch (error) {
        this.#options.signal.throwIfAborted();
        // What our own disk refuses is not the source's fault.
        if (isOurs(error)) throw error;
        last = toMinikeepError(error);
        const again = !patient && error instanceof ConnectionFault;
        (again ? this.#broken : this.#failed).add(source);
        this.#options.onSourceFailed(source, last);
      }
    }
    throw last ?? noSource(piece, index);
  }

  /** A cable that is pulled for a while costs only that while; another link of the source is tried at once. */
  async #insist(target: PieceTarget, source: Source, size: number): Promise<void> {
    const { signal, patienceMs = RECONNECT_MS } = this.#options;
    let heardMs = performance.now();
    for (;;) {
      const before = this.receivedBytes;
      try {
        await this.#fetch(target, source, size);
        return;
      } catch (error) {
        if (!(error instanceof ConnectionFault)) throw error;
        if (this.receivedBytes > before) heardMs = performance.now();
        if (performance.now() - heardMs >= patienceMs) throw error;
      }
      await setTimer(RETRY_MS, undefined, { signal });
    }
  }

  async #copy(target: PieceTarget, { file, piece }: HeldPiece): Promise<void> {
    const from = await open(file).catch(() => undefined);
    if (from === undefined) return;
    try {
      for (let chunk = target.next; chunk !== undefined; chunk = target.next) {
        this.#options.signal.throwIfAborted();
        const data = Buffer.allocUnsafeSlow(chunkBytes(piece.bytes, chunk));
        const at = piece.offset + chunk * PIECE_CHUNK_BYTES;
        const { bytesRead } = await from.read(data, 0, data.byteLength, at);
        // Damaged here: the rest comes from a source.
        if (bytesRead !== data.byteLength || !target.fits(chunk, data)) return;
        await target.write(chunk, data);
      }
    } finally {
      await from.close();
    }
  }

  async #fetch(target: PieceTarget, source: Source, size: number): Promise<void> {
    const { piece } = target;
    const { signal } = this.#options;
    if (target.digests === undefined && size > target.offset) {
      // Part of it may be here: only with the digests can it be told which.
      for await (const digests of source.fetch(piece, 0, 0, signal)) target.prove(digests, source);
      await target.keep(size, signal);
    }
    while (target.next !== undefined) {
      const first: number = target.next;
      let chunk = first;
      let proven = false;
      const underWay = new ChunkChecks();
      try {
        for await (const data of source.fetch(piece, first, target.missingFrom(first), signal)) {
          if (!proven) {
            target.prove(data, source);
            proven = true;
            continue;
          }
          const index = chunk;
          await underWay.add(target.matches(index, data), async (right) => {
            if (!right) throw rejected(`${source.name} sent a wrong chunk`);
            this.receivedBytes += data.byteLength;
            await target.write(index, data);
          });
          chunk += 1;
        }
      } finally {
        // Also when the source broke off: what came counts, and what our own disk says comes first.
        await underWay.end();
      }
      if (chunk === first) return;
    }
  }
}

/** The file that a slice grows in. */
interface Part {
  readonly handle: FileHandle;
  readonly writer: WindowWriter;
  /** Bytes that an earlier attempt left. */
  readonly size: number;
}

/** One piece's place in the part. */
class PieceTarget {
  readonly piece: Piece;
  readonly offset: number;
  /** Of its chunks, once a source proved them. */
  digests: Uint8Array | undefined;
  readonly #part: Part;
  readonly #onDone: (bytes: number) => void;
  readonly #have: Uint8Array;
  #from = 0;

  constructor(part: Part, piece: Piece, offset: number, onDone: (bytes: number) => void) {
    this.#part = part;
    this.piece = piece;
    this.offset = offset;
    this.#onDone = onDone;
    this.#have = new Uint8Array(chunkCount(piece.bytes));
  }

  /** The first chunk that is missing. */
  get next(): number | undefined {
    while (this.#have[this.#from] === 1) this.#from += 1;
    return this.#from < this.#have.length ? this.#from : undefined;
  }

  /** How many are missing in a row from there on. */
  missingFrom(first: number): number {
    const end = this.#have.indexOf(1, first);
    return (end < 0 ? this.#have.length : end) - first;
  }

  prove(digests: Uint8Array, source: Source): void {
    if (!provesPiece(this.piece, digests))
      throw rejected(`${source.name} sent digests that are not those of the piece`);
    this.digests = digests.slice();
  }

  fits(chunk: number, data: Uint8Array): boolean {
    const expected = this.#expected(chunk, data);
    return expected !== undefined && Buffer.compare(chunkDigest(data), expected) === 0;
  }

  /** `fits`, computed by another thread. */
  async matches(chunk: number, data: Uint8Array): Promise<boolean> {
    const expected = this.#expected(chunk, data);
    return expected !== undefined && Buffer.compare(await chunkDigestAside(data), expected) === 0;
  }

  #expected(chunk: number, data: Uint8Array): Uint8Array | undefined {
    return chunk < this.#have.length && data.byteLength === chunkBytes(this.piece.bytes, chunk)
      ? this.digests?.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES)
      : undefined;
  }

  /** Takes a chunk that `fits`; its buffer is not the caller's any more. */
  async write(chunk: number, data: Uint8Array): Promise<void> {
    const { byteLength } = data;
    const at = this.offset + chunk * PIECE_CHUNK_BYTES;
    await this.#part.writer.write(data, at, () => giveBack(data));
    this.#done(chunk, byteLength);
  }

  /** Keeps the chunks that are in the file already, which is `size` bytes long. */
  async keep(size: number, signal: AbortSignal): Promise<void> {
    const buffer = Buffer.allocUnsafe(PIECE_CHUNK_BYTES);
    for (let chunk = 0; chunk < this.#have.length; chunk++) {
      signal.throwIfAborted();
      const bytes = chunkBytes(this.piece.bytes, chunk);
      const at = this.offset + chunk * PIECE_CHUNK_BYTES;
      if (at + bytes > size) return;
      const data = buffer.subarray(0, bytes);
      await this.#part.handle.read(data, 0, bytes, at);
      if (this.#have[chunk] === 0 && this.fits(chunk, data)) this.#done(chunk, bytes);
    }
  }

  #done(chunk: number, bytes: number): void {
    this.#have[chunk] = 1;
    this.#onDone(bytes);
  }
}

/** A fault of this node's disk or limits: an error of the system without any network in it. */
const isOurs = (error: unknown): boolean =>
  ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE', 'EBADF'].includes(codeOf(error) ?? '');

function noSource(piece: Piece, index: number): MinikeepError {
  return new MinikeepError(
    'store.piece_unavailable',
    `nobody that could be reached has piece ${index + 1} (${piece.digest.slice(0, 12)})`,
    {
      next: 'Connect the disk with the model, or start the node that holds it, then run again.',
      details: { piece: index },
    },
  );
}
