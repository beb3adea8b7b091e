/**
 * A model's fingerprint on disk: one line of JSON that names the pieces, then the lists of their chunks' digests, which
 * are read when they are needed (those of a 404 GB model take 26 MB). Every list is checked by its piece's digest.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { DIGEST_BYTES, chunkCount, pieceDigest, type Fingerprint } from '@minikeep/gguf';
import { z } from 'zod';
import { replaceFile } from './replace-file.ts';

const INDEX_BYTES_MAX = 8 * 1024 * 1024;
const DIGEST = /^[0-9a-f]{64}$/;
const Index = z.strictObject({
  version: z.literal(1),
  sha256: z.string().regex(DIGEST),
  pieces: z.array(
    z.tuple([z.string(), z.number().int().positive(), z.string().regex(DIGEST)]).readonly(),
  ),
});

export interface KnownPiece {
  readonly bytes: number;
  /** Of its chunks' digests (`pieceDigest`), lower-case hex. */
  readonly digest: string;
}

/** A model's pieces by name, without the digests of their chunks. */
export class KnownPieces {
  readonly sha256: string;
  readonly pieces: ReadonlyMap<string, KnownPiece>;
  readonly #file: string;
  readonly #offsets: ReadonlyMap<string, number>;

  private constructor(
    file: string,
    sha256: string,
    pieces: ReadonlyMap<string, KnownPiece>,
    offsets: ReadonlyMap<string, number>,
  ) {
    this.#file = file;
    this.sha256 = sha256;
    this.pieces = pieces;
    this.#offsets = offsets;
  }

  /** Undefined if the file is absent, damaged or of another version: it is made anew. */
  static async read(file: string): Promise<KnownPieces | undefined> {
    try {
      const handle = await open(file);
      try {
        const { size } = await handle.stat();
        const head = Buffer.alloc(Math.min(size, INDEX_BYTES_MAX));
        await handle.read(head, 0, head.byteLength, 0);
        const end = head.indexOf('\n');
        const line = head.subarray(DIGEST_BYTES * 2, end);
        const check = createHash('sha256').update(line).digest('hex');
        if (end < 0 || head.toString('latin1', 0, DIGEST_BYTES * 2) !== check) return undefined;
        const index = Index.parse(JSON.parse(line.toString()));
        const pieces = new Map<string, KnownPiece>();
        const offsets = new Map<string, number>();
        let at = end + 1;
        for (const [name, bytes, digest] of index.pieces) {
          pieces.set(name, { bytes, digest });
          offsets.set(name, at);
          at += chunkCount(bytes) * DIGEST_BYTES;
        }
        return at === size ? new KnownPieces(file, index.sha256, pieces, offsets) : undefined;
      } finally {
        await handle.close();
      }
    } catch {
      return undefined;
    }
  }

  static async write(file: string, { sha256, pieces }: Fingerprint): Promise<KnownPieces> {
    const index: z.infer<typeof Index> = {
      version: 1,
      sha256,
      pieces: [...pieces].map(([name, digests]) => [
        name,
        digests.bytes,
        Buffer.from(pieceDigest(digests)).toString('hex'),
      ]),
    };
    const line = JSON.stringify(index);
    const check = createHash('sha256').update(line).digest('hex');
    await replaceFile(file, [
      Buffer.from(`${check}${line}\n`),
      ...[...pieces.values()].map((digests) => digests.chunks),
    ]);
    const written = await KnownPieces.read(file);
    if (written === undefined) throw new Error(`${file} is not what was written`);
    return written;
  }

  /** Digests of the chunks of a piece; undefined if the file no longer holds them. */
  async chunksOf(name: string): Promise<Uint8Array | undefined> {
    const [piece, offset] = [this.pieces.get(name), this.#offsets.get(name)];
    if (piece === undefined || offset === undefined) return undefined;
    const chunks = new Uint8Array(chunkCount(piece.bytes) * DIGEST_BYTES);
    const handle = await open(this.#file).catch(() => undefined);
    try {
      await handle?.read(chunks, 0, chunks.byteLength, offset);
    } finally {
      await handle?.close();
    }
    const digest = Buffer.from(pieceDigest({ bytes: piece.bytes, chunks })).toString('hex');
    return digest === piece.digest ? chunks : undefined;
  }
}
