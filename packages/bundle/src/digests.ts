/** SHA-256 of files, in pieces. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** Hex. Rejects with the system's error, or the signal's reason. */
export async function fileDigest(file: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { ...(signal && { signal }) }))
    hash.update(piece as Buffer);
  return hash.digest('hex');
}

export const textDigest = (text: string): string => createHash('sha256').update(text).digest('hex');
