/** Pieces that this coordinator can make from a model's files, served to the nodes whose slices need them. */
import {
  PIECE_CHUNK_BYTES,
  PlanReader,
  chunkBytes,
  chunkCount,
  digestPiece,
  pieceDigest,
  type Model,
  type PiecePlan,
  type SlicePlan,
} from '@minikeep/gguf';
import type { ModelSource } from '@minikeep/models';
import { PieceGrants, PieceServer, type ServedPiece } from '@minikeep/protocol/rpc';
import type { WantedPiece } from './transfer-plan.ts';

/** A piece of a slice with what is needed to serve it. */
export interface OriginPiece extends WantedPiece {
  readonly name: string;
  readonly plan: PiecePlan;
  /** Undefined: the file that holds its bytes is away. */
  readonly model: Model | undefined;
  chunkDigests(): Promise<Uint8Array | undefined>;
}

/** The pieces of a slice, with their digests. Only what this cut makes anew is read. */
export async function originPieces(
  source: ModelSource,
  slice: SlicePlan,
  signal: AbortSignal,
): Promise<OriginPiece[]> {
  const pieces: OriginPiece[] = [];
  for (const plan of slice.pieces) {
    const { name, bytes } = plan;
    const known = plan.shared ? source.known.pieces.get(name) : undefined;
    if (known !== undefined) {
      const model = source.data;
      const here = model !== undefined;
      const chunkDigests = () => source.known.chunksOf(name);
      pieces.push({ name, plan, bytes, digest: known.digest, here, model, chunkDigests });
      continue;
    }
    // A header, or zeros: made of what was kept of the model's own header.
    const { model } = source;
    const digests = await digestPiece(model, plan, signal);
    const digest = Buffer.from(pieceDigest(digests)).toString('hex');
    const chunkDigests = () => Promise.resolve(digests.chunks);
    pieces.push({ name, plan, bytes, digest, here: true, model, chunkDigests });
  }
  return pieces;
}

export class PieceOrigin {
  readonly grants = new PieceGrants();
  /** What is offered for each deployment: digest to piece. */
  readonly #offers = new Map<string, ReadonlyMap<string, OriginPiece>>();
  readonly #server = new PieceServer(this.grants, (digest) => this.#open(digest));

  /** The handler of PieceService. */
  get service() {
    return {
      fetch: (...request: Parameters<PieceServer['fetch']>) => this.#server.fetch(...request),
    };
  }

  /** Replaces what is offered for the deployment. */
  offer(deployment: string, pieces: readonly OriginPiece[]): void {
    const here = pieces
      .filter((piece) => piece.here)
      .map((piece) => [piece.digest, piece] as const);
    this.#offers.set(deployment, new Map(here));
  }

  withdraw(deployment: string): void {
    this.#offers.delete(deployment);
    this.grants.forget(deployment);
  }

  async #open(digest: string): Promise<ServedPiece | undefined> {
    for (const offer of this.#offers.values()) {
      const piece = offer.get(digest);
      const chunkDigests = await piece?.chunkDigests();
      if (piece?.model === undefined || chunkDigests === undefined) continue;
      const { plan } = piece;
      const reader = new PlanReader(piece.model);
      const count = chunkCount(plan.bytes);
      return {
        chunkDigests,
        chunkCount: count,
        chunkBytes: (chunk) => chunkBytes(plan.bytes, chunk),
        async read(chunk, target) {
          await reader.readInto(plan, chunk * PIECE_CHUNK_BYTES, target);
          if (chunk === count - 1) await reader.assertUnchanged();
        },
        close: () => reader.close(),
      };
    }
    return undefined;
  }
}
