/** PrepareSlice and its like: the coordinator's requests about pieces, checked, and answered from the store. */
import type { CallContext } from 'nice-grpc-common';
import {
  DIGEST_BYTES,
  chunkBytes,
  chunkCount,
  PIECE_CHUNK_BYTES,
  sliceDigest,
} from '@minikeep/gguf';
import { EventQueue, MinikeepError, parseIdentityUri, toMinikeepError } from '@minikeep/protocol';
import {
  passedThrough,
  PieceGrants,
  PieceServer,
  RawPieceDefinition,
  connect,
  toErrorDetail,
  type CredentialPems,
  type ServedPiece,
} from '@minikeep/protocol/rpc';
import type {
  AllowPiecesRequest,
  FindPiecesRequest,
  FindPiecesResponse,
  PieceSource,
  PrepareSliceRequest,
  PrepareSliceResponse,
} from '@minikeep/protocol/v1';
import { open } from 'node:fs/promises';
import { assembleSlice, type Source } from './assemble-slice.ts';
import { PIECES_MAX, type Piece } from './manifest.ts';
import type { SliceStore } from './slice-store.ts';

const SOURCES_MAX = 64;
/** Of one source. */
const ADDRESSES_MAX = 32;
/** A node has one stage of a deployment, the embedding and the text beside it. */
const SLICES_ASKED_MAX = 64;
const EVENTS_MAX = 10_000;
/** Pieces of all slices of a model, asked for at once. */
const PIECES_ASKED_MAX = 4 * PIECES_MAX;
/** Progress is shown to people: no finer than this. */
const PROGRESS_STEP_BYTES = 4 * 1024 * 1024;

const hex = (digest: Uint8Array): string => Buffer.from(digest).toString('hex');

export class Pieces {
  readonly #store: SliceStore;
  readonly #credentials: CredentialPems;
  readonly #patienceMs: number | undefined;
  readonly #grants = new PieceGrants();
  readonly #server: PieceServer;
  /** By slice: one at a time, or two would write the same file. */
  readonly #busy = new Map<string, Promise<unknown>>();

  /** `patienceMs`: how long a source that can't be reached is tried. */
  constructor(store: SliceStore, credentials: CredentialPems, patienceMs?: number) {
    this.#store = store;
    this.#patienceMs = patienceMs;
    this.#credentials = credentials;
    this.#server = new PieceServer(this.#grants, (digest) => serve(store, digest));
  }

  /** The handler of PieceService. */
  get service() {
    return {
      fetch: (...request: Parameters<PieceServer['fetch']>) => this.#server.fetch(...request),
    };
  }

  async find({ digests, slices }: FindPiecesRequest): Promise<FindPiecesResponse> {
    if (digests.length > PIECES_ASKED_MAX) throw bad('it asks for too many pieces');
    if (slices.length > SLICES_ASKED_MAX) throw bad('it asks for too many slices');
    const held = await this.#store.held(new Set(digests.map(hex)));
    const room = await this.#store.room(new Map(slices.map(({ slice, bytes }) => [slice, bytes])));
    return { held: [...held.keys()].map((digest) => Buffer.from(digest, 'hex')), ...room };
  }

  allow({ deployment, reader, digests }: AllowPiecesRequest): void {
    if (parseIdentityUri(reader)?.role !== 'node') throw bad('the reader is no node');
    if (digests.length > PIECES_ASKED_MAX) throw bad('it allows too many pieces');
    this.#grants.allow(reader, deployment, digests.map(hex));
  }

  /** A deployment is over: nobody fetches for it any more. */
  forget(deployment: string): void {
    this.#grants.forget(deployment);
  }

  /** The coordinator is gone: what it allowed goes with it. */
  forgetAll(): void {
    this.#grants.forgetAll();
  }

  async *prepare(
    request: PrepareSliceRequest,
    context: Pick<CallContext, 'signal'>,
  ): AsyncGenerator<PrepareSliceResponse, void, undefined> {
    const pieces = checkedPieces(request);
    const events = new EventQueue<PrepareSliceResponse>(EVENTS_MAX);
    const work = this.#prepare(request, pieces, events, context.signal);
    work.then(
      () => events.end(),
      (error: unknown) => events.end(toMinikeepError(error)),
    );
    try {
      yield* events;
    } finally {
      await work.catch(() => {});
    }
  }

  async #prepare(
    request: PrepareSliceRequest,
    pieces: readonly Piece[],
    events: EventQueue<PrepareSliceResponse>,
    signal: AbortSignal,
  ): Promise<void> {
    const { slice } = request;
    for (let other = this.#busy.get(slice); other !== undefined; other = this.#busy.get(slice))
      await other.catch(() => {});
    signal.throwIfAborted();
    const work = this.#bring(request, pieces, events, signal);
    this.#busy.set(slice, work);
    try {
      await work;
    } finally {
      this.#busy.delete(slice);
    }
  }

  async #bring(
    { deployment, slice, sources }: PrepareSliceRequest,
    pieces: readonly Piece[],
    events: EventQueue<PrepareSliceResponse>,
    signal: AbortSignal,
  ): Promise<void> {
    const totalBytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    const prepared = (receivedBytes: number, held: boolean): void => {
      const value = { bytes: totalBytes, receivedBytes, held };
      events.push({ event: { $case: 'prepared', value } });
    };
    if (await this.#store.pin(deployment, slice)) {
      prepared(0, true);
      return;
    }
    let told = 0;
    let seen = 0;
    const { receivedBytes } = await assembleSlice({
      store: this.#store,
      deployment,
      slice,
      pieces,
      sources: sources.map((source) => this.#source(source, deployment)),
      signal,
      ...(this.#patienceMs === undefined ? {} : { patienceMs: this.#patienceMs }),
      onProgress: (doneBytes) => {
        passedThrough(doneBytes - seen);
        seen = doneBytes;
        if (doneBytes - told < PROGRESS_STEP_BYTES && doneBytes < totalBytes) return;
        told = doneBytes;
        events.push({ event: { $case: 'progress', value: { doneBytes, totalBytes } } });
      },
      onSourceFailed({ name }, error) {
        const value = { identity: name, error: toErrorDetail(error) };
        events.push({ event: { $case: 'sourceFailed', value } });
      },
    });
    prepared(receivedBytes, false);
  }

  #source(source: PieceSource, deployment: string): Source {
    const identity = parseIdentityUri(source.identity);
    if (identity === undefined) throw bad('a source has no valid identity');
    const who = identity.role === 'node' ? `node ${identity.name}` : 'the coordinator';
    const credentials = this.#credentials;
    const ways = [...new Set([source.address, ...source.addresses])].slice(0, ADDRESSES_MAX);
    // The one that broke is the last to be tried again.
    let way = 0;
    return {
      name: who,
      pieces: new Set(source.pieces),
      async *fetch(piece, firstChunk, chunks, signal) {
        const address = ways[way % ways.length] ?? '';
        const connection = connect(RawPieceDefinition, address, credentials, identity, who);
        try {
          const request = {
            deployment,
            piece: Buffer.from(piece.digest, 'hex'),
            firstChunk,
            chunks,
          };
          // No deadline: a piece may take hours. The connection's keepalive ends what hangs.
          yield* connection.client.fetch(request, { signal });
        } catch (error) {
          way += 1;
          throw error;
        } finally {
          connection.close();
        }
      },
    };
  }
}

function checkedPieces({ slice, pieces, sources }: PrepareSliceRequest): Piece[] {
  if (pieces.length === 0 || pieces.length > PIECES_MAX) throw bad('its number of pieces');
  if (sources.length > SOURCES_MAX) throw bad('it names too many sources');
  const named = pieces.map((piece) => ({ digest: hex(piece.digest), bytes: piece.bytes }));
  if (pieces.some(({ digest, bytes }) => digest.byteLength !== DIGEST_BYTES || !(bytes > 0)))
    throw bad('a piece is not possible');
  if (sliceDigest(named) !== slice) throw bad('its pieces are not those of the slice');
  return named;
}

/** A piece of a slice in the store. */
async function serve(store: SliceStore, digest: string): Promise<ServedPiece | undefined> {
  const held = (await store.held(new Set([digest]))).get(digest);
  const chunkDigests = held === undefined ? undefined : await store.chunkDigests(held);
  if (held === undefined || chunkDigests === undefined) return undefined;
  const { piece } = held;
  const handle = await open(held.file).catch(() => undefined);
  if (handle === undefined) return undefined;
  return {
    chunkDigests,
    chunkCount: chunkCount(piece.bytes),
    chunkBytes: (chunk) => chunkBytes(piece.bytes, chunk),
    async read(chunk, target) {
      const at = piece.offset + chunk * PIECE_CHUNK_BYTES;
      // The reader checks: what is cut short or changed here is refused there.
      await handle.read(target, 0, target.byteLength, at);
    },
    close: () => handle.close(),
  };
}

const bad = (why: string): MinikeepError =>
  new MinikeepError('node.bad_request', `a request about slices was refused: ${why}`, {
    next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
  });
