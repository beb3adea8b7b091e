/**
 * Checks a stored slice chunk by chunk, several at once: hashing happens on other threads, so that a slice of many
 * gigabytes is checked at the disk's speed.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { webcrypto } from 'node:crypto';
import { DIGEST_BYTES, PIECE_CHUNK_BYTES, chunkBytes, chunkCount } from '@minikeep/gguf';
import { readChunkDigests, type PlacedPiece } from './manifest.ts';

/** Chunks in memory at once. */
const WORKERS = 4;

/** True when every byte is what the manifest says and nothing follows. Throws the signal's reason when aborted. */
export async function verifyFile(
  file: string,
  manifest: string,
  pieces: readonly PlacedPiece[],
  onProgress: (fraction: number) => void,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    const total = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    if (size !== total) return false;
    const buffers = Array.from({ length: WORKERS }, () => new Uint8Array(PIECE_CHUNK_BYTES));
    let done = 0;
    for (const piece of pieces) {
      const digests = await readChunkDigests(manifest, piece);
      if (digests === undefined) return false;
      const count = chunkCount(piece.bytes);
      let next = 0;
      let good = true;
      const work = async (buffer: Uint8Array<ArrayBuffer>): Promise<void> => {
        while (good && next < count) {
          signal?.throwIfAborted();
          const chunk = next++;
          const data = buffer.subarray(0, chunkBytes(piece.bytes, chunk));
          const at = piece.offset + chunk * PIECE_CHUNK_BYTES;
          const { bytesRead } = await handle.read(data, 0, data.byteLength, at);
          const found = Buffer.from(await webcrypto.subtle.digest('SHA-256', data));
          const expected = digests.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES);
          good &&= bytesRead === data.byteLength && found.equals(expected);
          done += data.byteLength;
          onProgress(Math.min(1, done / total));
        }
      };
      // All have ended before the file is closed, also when one fails.
      const ends = await Promise.allSettled(buffers.map(work));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
      if (!good) return false;
    }
    return true;
  } finally {
    await handle.close();
  }
}
