/**
 * What a stored slice is made of: its pieces, and the digests of their chunks. Lies beside the slice and proves itself:
 * the slice's name is the digest of the pieces' digests, each of which is that of a list of chunk digests.
 *
 * The file: one line of JSON (digest and size of each piece), then the lists one after the other.
 */
import { open } from 'node:fs/promises';
import { DIGEST_BYTES, chunkCount, fitsPiece, pieceDigest, sliceDigest } from '@minikeep/gguf';
import { z } from 'zod';

/** Layers, tensors and a header; far above what any model has. */
export const PIECES_MAX = 4_096;
const LINE_BYTES_MAX = PIECES_MAX * 128;
const Line = z
  .array(z.tuple([z.string().regex(/^[0-9a-f]{64}$/), z.number().int().positive()]).readonly())
  .min(1)
  .max(PIECES_MAX);

export interface Piece {
  /** Lower-case hex. */
  readonly digest: string;
  readonly bytes: number;
}

/** Where a piece lies in its slice, and where the digests of its chunks lie in the manifest. */
export interface PlacedPiece extends Piece {
  readonly offset: number;
  readonly listOffset: number;
}

/** The pieces of a manifest that belongs to the slice; undefined if the file is absent, damaged or another slice's. */
export async function readManifest(
  file: string,
  slice: string,
): Promise<readonly PlacedPiece[] | undefined> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const head = Buffer.alloc(Math.min(size, LINE_BYTES_MAX));
      await handle.read(head, 0, head.byteLength, 0);
      const end = head.indexOf('\n');
      if (end < 0) return undefined;
      let offset = 0;
      let listOffset = end + 1;
      const pieces: PlacedPiece[] = [];
      for (const [digest, bytes] of Line.parse(JSON.parse(head.toString('latin1', 0, end)))) {
        pieces.push({ digest, bytes, offset, listOffset });
        offset += bytes;
        listOffset += chunkCount(bytes) * DIGEST_BYTES;
      }
      return listOffset === size && sliceDigest(pieces) === slice ? pieces : undefined;
    } finally {
      await handle.close();
    }
  } catch {
    return undefined;
  }
}

/** Digests of a piece's chunks; undefined if the manifest does not hold them (any more). */
export async function readChunkDigests(
  file: string,
  piece: PlacedPiece,
): Promise<Uint8Array | undefined> {
  const handle = await open(file).catch(() => undefined);
  if (handle === undefined) return undefined;
  try {
    const chunks = new Uint8Array(chunkCount(piece.bytes) * DIGEST_BYTES);
    await handle.read(chunks, 0, chunks.byteLength, piece.listOffset);
    return provesPiece(piece, chunks) ? chunks : undefined;
  } finally {
    await handle.close();
  }
}

/** True when these are the digests of the piece's chunks. */
export function provesPiece({ digest, bytes }: Piece, chunks: Uint8Array): boolean {
  if (!fitsPiece({ bytes, chunks })) return false;
  return Buffer.from(pieceDigest({ bytes, chunks })).toString('hex') === digest;
}

/** A new manifest's bytes: the line, then the lists in the order of the pieces. */
export const manifestLine = (pieces: readonly Piece[]): Uint8Array =>
  Buffer.from(`${JSON.stringify(pieces.map(({ digest, bytes }) => [digest, bytes]))}\n`);
