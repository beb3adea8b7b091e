/** The SHA-256 of a model: of its one file, or of all parts in order, as if they were one. */
import { createHash } from 'node:crypto';
import { COPY_BYTES } from './limits.ts';
import { openUnchanged } from './unchanged.ts';
import type { Model } from './types.ts';

/**
 * Hashes every byte. `onProgress` gets bytes done and all bytes. Throws `gguf.changed` if a file is not the one that
 * was opened, and the signal's reason when aborted.
 */
export async function modelDigest(
  model: Model,
  onProgress?: (doneBytes: number, totalBytes: number) => void,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = new Uint8Array(COPY_BYTES);
  let done = 0;
  for (const file of model.files) {
    const source = await openUnchanged(file);
    try {
      for (let at = 0; at < file.sizeBytes;) {
        signal?.throwIfAborted();
        const got = await source.read(
          at,
          buffer.subarray(0, Math.min(COPY_BYTES, file.sizeBytes - at)),
        );
        if (got === 0) break;
        hash.update(buffer.subarray(0, got));
        at += got;
        done += got;
        onProgress?.(done, model.sizeBytes);
      }
      await source.assertUnchanged();
    } finally {
      await source.close();
    }
  }
  return hash.digest('hex');
}
