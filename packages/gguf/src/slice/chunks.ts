/**
 * Digests of pieces. A piece's digest is the SHA-256 of its chunks' digests in order, so that whoever knows it can check
 * the list of chunk digests at once, and then every chunk by itself, from wherever and in whichever order it came.
 */
import { createHash, hash, webcrypto } from 'node:crypto';
import { PIECE_BYTES_MAX, PIECE_CHUNK_BYTES } from '../limits.ts';

export const DIGEST_BYTES = 32;

export const chunkCount = (bytes: number): number => Math.ceil(bytes / PIECE_CHUNK_BYTES);

/** Bytes of chunk `index` of a piece of `bytes`. */
export const chunkBytes = (bytes: number, index: number): number =>
  Math.min(PIECE_CHUNK_BYTES, bytes - index * PIECE_CHUNK_BYTES);

export const chunkDigest = (data: Uint8Array): Uint8Array => hash('sha256', data, 'buffer');

/** The same by a thread of the pool; `data` is copied before this returns. */
export async function chunkDigestAside(data: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>));
}

/** A piece as it is checked: its size and the digests of its chunks, 32 bytes each, one after the other. */
export interface PieceDigests {
  readonly bytes: number;
  readonly chunks: Uint8Array;
}

/** 32 bytes. The size takes part, so that no list fits two sizes. */
export function pieceDigest({ bytes, chunks }: PieceDigests): Uint8Array {
  return createHash('sha256').update(`minikeep piece 1\n${bytes}\n`).update(chunks).digest();
}

/** True when the list can be that of a piece of this size. */
export const fitsPiece = ({ bytes, chunks }: PieceDigests): boolean =>
  Number.isSafeInteger(bytes) &&
  bytes > 0 &&
  bytes <= PIECE_BYTES_MAX &&
  chunks.byteLength === chunkCount(bytes) * DIGEST_BYTES;

/** Takes a piece's bytes in order and keeps only digests. */
export class PieceHasher {
  readonly #bytes: number;
  readonly #chunks: Uint8Array;
  #chunk = createHash('sha256');
  #done = 0;

  constructor(bytes: number) {
    this.#bytes = bytes;
    this.#chunks = new Uint8Array(chunkCount(bytes) * DIGEST_BYTES);
  }

  update(data: Uint8Array): void {
    for (let at = 0; at < data.byteLength;) {
      const room = PIECE_CHUNK_BYTES - (this.#done % PIECE_CHUNK_BYTES);
      const part = data.subarray(at, at + room);
      this.#chunk.update(part);
      at += part.byteLength;
      this.#done += part.byteLength;
      if (this.#done % PIECE_CHUNK_BYTES === 0 || this.#done === this.#bytes) this.#endChunk();
    }
  }

  finish(): PieceDigests {
    if (this.#done !== this.#bytes)
      throw new Error(`${this.#done} bytes of a piece of ${this.#bytes}`);
    return { bytes: this.#bytes, chunks: this.#chunks };
  }

  #endChunk(): void {
    const index = Math.ceil(this.#done / PIECE_CHUNK_BYTES) - 1;
    this.#chunks.set(this.#chunk.digest(), index * DIGEST_BYTES);
    this.#chunk = createHash('sha256');
  }
}

/** Names a slice's bytes by its pieces in order: lower-case hex. */
export function sliceDigest(pieces: readonly { digest: string; bytes: number }[]): string {
  const hash = createHash('sha256').update('minikeep slice 1\n');
  for (const { digest, bytes } of pieces) hash.update(`${digest} ${bytes}\n`);
  return hash.digest('hex');
}
