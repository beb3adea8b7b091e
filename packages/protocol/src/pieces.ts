/**
 * Pieces of slices on their way: the one method of PieceService with raw bytes (a chunk is copied as little as a frame
 * is), who may fetch what, and the serving side, which agents and the coordinator share.
 */
import type { CallContext } from 'nice-grpc-common';
import { peerOf } from './access.ts';
import { passedThrough } from './collect-garbage.ts';
import { EXIT, MinikeepError } from './errors.ts';
import { FRAME_WRAPPER_BYTES, unwrapFrame, wrapFrame } from './frames.ts';
import { FetchRequest } from './generated/v1.ts';
import { identityUri } from './identity.ts';

/** For nice-grpc's servers and clients: responses are payloads, the digests of the chunks first. */
export const RawPieceDefinition = {
  fetch: {
    path: '/minikeep.v1.PieceService/Fetch',
    requestStream: false,
    responseStream: true,
    requestSerialize: (request: FetchRequest): Uint8Array => FetchRequest.encode(request).finish(),
    requestDeserialize: (bytes: Uint8Array): FetchRequest => FetchRequest.decode(bytes),
    responseSerialize: (data: Uint8Array): Uint8Array => {
      const message = wrapFrame(data, onTaken.has(data.buffer));
      // grpc-js copies it into a message of its own before anything else runs.
      onTaken.get(data.buffer)?.();
      return message;
    },
    responseDeserialize: unwrapFrame,
    options: {},
  },
} as const;

/** Of buffers that are sent without being wrapped in a copy: what is called once their content was taken. */
const onTaken = new WeakMap<ArrayBufferLike, () => void>();

/**
 * A buffer that is filled, sent, and filled again. Chunks that wait in a queue would take memory, and new ones for each
 * chunk keep the collector busier than everything else that a transfer does.
 */
class ChunkBuffer {
  readonly #data: Uint8Array;
  #taken: Promise<void> = Promise.resolve();

  constructor(bytes: number) {
    const whole = new Uint8Array(bytes + FRAME_WRAPPER_BYTES);
    this.#data = whole.subarray(FRAME_WRAPPER_BYTES);
    onTaken.set(whole.buffer, () => {});
  }

  /** Resolves with room for so many bytes once what was in it is on its way. Throws the signal's reason when aborted. */
  async room(bytes: number, signal: AbortSignal): Promise<Uint8Array> {
    let abort: () => void = () => {};
    const aborted = new Promise<void>((resolve) => (abort = resolve));
    signal.addEventListener('abort', abort, { once: true });
    await Promise.race([this.#taken, aborted]);
    signal.removeEventListener('abort', abort);
    signal.throwIfAborted();
    return this.#data.subarray(0, bytes);
  }

  /** Call just before it is sent. */
  sent(): void {
    this.#taken = new Promise((resolve) => onTaken.set(this.#data.buffer, resolve));
  }
}

/** A piece that can be served. */
export interface ServedPiece {
  /** Digests of its chunks, one after the other. */
  readonly chunkDigests: Uint8Array;
  readonly chunkCount: number;
  /** Size of that chunk. */
  chunkBytes(chunk: number): number;
  /** Fills `target`, which is as large, with that chunk. */
  read(chunk: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Transfers served at once; further ones wait, so that memory stays what it is. */
const SERVED_MAX = 8;

export class PieceServer {
  readonly #grants: PieceGrants;
  readonly #open: (digest: string) => Promise<ServedPiece | undefined>;
  readonly #waiting: (() => void)[] = [];
  #served = 0;

  constructor(grants: PieceGrants, open: (digest: string) => Promise<ServedPiece | undefined>) {
    this.#grants = grants;
    this.#open = open;
  }

  /** The handler of the method. Throws `access.denied`, `store.piece_missing`, whatever reading throws. */
  async *fetch(
    request: FetchRequest,
    context: CallContext,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const digest = Buffer.from(request.piece).toString('hex');
    this.#grants.check(identityUri(peerOf(context)), request.deployment, digest);
    await this.#turn(context.signal);
    let piece: ServedPiece | undefined;
    try {
      piece = await this.#open(digest);
      if (piece === undefined) throw missing(digest);
      yield piece.chunkDigests;
      const end = Math.min(piece.chunkCount, request.firstChunk + request.chunks);
      const size = end > request.firstChunk ? piece.chunkBytes(request.firstChunk) : 0;
      // One is on its way while the other is filled. No chunk is larger than the first one asked for.
      const buffers = [new ChunkBuffer(size), new ChunkBuffer(size)] as const;
      for (let chunk = request.firstChunk; chunk < end; chunk++) {
        const buffer = buffers[chunk % 2 === 0 ? 0 : 1];
        const data = await buffer.room(piece.chunkBytes(chunk), context.signal);
        await piece.read(chunk, data);
        buffer.sent();
        yield data;
        passedThrough(data.byteLength);
      }
    } finally {
      this.#served -= 1;
      this.#waiting.shift()?.();
      await piece?.close();
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    while (this.#served >= SERVED_MAX) {
      let wake: () => void = () => {};
      const woken = new Promise<void>((resolve) => (wake = resolve));
      this.#waiting.push(wake);
      signal.addEventListener('abort', wake, { once: true });
      await woken;
      signal.removeEventListener('abort', wake);
      const at = this.#waiting.indexOf(wake);
      if (at >= 0) this.#waiting.splice(at, 1);
      signal.throwIfAborted();
    }
    this.#served += 1;
  }
}

const GRANTS_MAX = 1_024;

/** Who may fetch which pieces, for which deployment. What is not allowed is refused, held or not. */
export class PieceGrants {
  readonly #allowed = new Map<string, ReadonlySet<string>>();

  /** Replaces what the reader was allowed for the deployment. Throws `node.bad_request` over the limit. */
  allow(reader: string, deployment: string, digests: readonly string[]): void {
    const key = keyOf(reader, deployment);
    this.#allowed.delete(key);
    if (digests.length === 0) return;
    if (this.#allowed.size >= GRANTS_MAX)
      throw new MinikeepError('node.bad_request', 'too many nodes may fetch pieces at once', {
        next: 'Take a deployment down with `minikeep down`.',
      });
    this.#allowed.set(key, new Set(digests));
  }

  /** Nobody may fetch anything for that deployment any more. */
  forget(deployment: string): void {
    for (const key of this.#allowed.keys())
      if (key.endsWith(keyOf('', deployment))) this.#allowed.delete(key);
  }

  /** Nobody may fetch anything any more. */
  forgetAll(): void {
    this.#allowed.clear();
  }

  /** Throws `access.denied`. */
  check(reader: string, deployment: string, digest: string): void {
    if (this.#allowed.get(keyOf(reader, deployment))?.has(digest) === true) return;
    throw new MinikeepError('access.denied', `${reader} may not fetch that piece`, {
      next: 'Deploy again: the coordinator allows a node what its own slices need.',
      exitCode: EXIT.denied,
    });
  }
}

/** Neither part can hold a space. */
const keyOf = (reader: string, deployment: string): string => `${reader} ${deployment}`;

const missing = (digest: string): MinikeepError =>
  new MinikeepError('store.piece_missing', `the piece ${digest.slice(0, 12)} is no longer here`, {
    next: 'Deploy again: what is missing comes from elsewhere.',
  });
