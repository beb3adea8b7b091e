/**
 * Writes entries as a .tar.gz whose bytes follow from the entries alone: fixed times, owners and modes, pieces of one
 * size for the compressor, and no name of the packing system in gzip's header. Programs are compressed, models are
 * stored (they don't get smaller): two gzip members, which every gunzip reads as one.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { createGzip, constants } from 'node:zlib';
import { MinikeepError } from '@minikeep/protocol';
import { pack, type Pack } from 'tar-stream';
import { isModel, TOP_FOLDER, type HashedEntry } from './contents.ts';
import { PIECE_BYTES } from './limits.ts';

export interface WrittenArchive {
  /** SHA-256 of the file, hex. */
  readonly sha256: string;
  readonly bytes: number;
}

/** 2020-01-01: a date that tar, ls and file systems all take. */
const TIME = new Date(Date.UTC(2020, 0, 1));
/** Above this it takes three times as long for 1 %. */
const PROGRAM_LEVEL = 6;
const GZIP_OS_AT = 9;
/** "unknown" (RFC 1952): zlib writes the system's own number there. */
const GZIP_OS = 255;

/**
 * Writes beside `file` and renames at the end, so that `file` is whole or not there. `onProgress` gets bytes of entries
 * done. Throws `bundle.changed` when a file is not what was hashed, and the signal's reason.
 */
export async function writeArchive(
  file: string,
  entries: readonly HashedEntry[],
  signal: AbortSignal,
  onProgress: (doneBytes: number) => void,
): Promise<WrittenArchive> {
  const partial = partialOf(file);
  const out = await open(partial, 'wx', 0o644);
  const written = { hash: createHash('sha256'), bytes: 0, out };
  let done = 0;
  const progress = (bytes: number): void => onProgress((done += bytes));
  try {
    const models = entries.filter((entry) => isModel(entry.path));
    const programs = entries.filter((entry) => !isModel(entry.path));
    await member(programs, PROGRAM_LEVEL, models.length === 0, written, signal, progress);
    if (models.length > 0)
      await member(models, constants.Z_NO_COMPRESSION, true, written, signal, progress);
    await out.sync();
    await out.close();
    await rename(partial, file);
  } catch (thrown) {
    await out.close().catch(() => {});
    await rm(partial, { force: true });
    throw thrown;
  }
  return { sha256: written.hash.digest('hex'), bytes: written.bytes };
}

/** The interrupted command's leftovers, by name. */
export const partialOf = (file: string): string =>
  path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.partial`);

interface Written {
  readonly hash: Hash;
  readonly out: FileHandle;
  bytes: number;
}

async function member(
  entries: readonly HashedEntry[],
  level: number,
  last: boolean,
  written: Written,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<void> {
  const tar = pack();
  const gzip = createGzip({ level, memLevel: 9, chunkSize: PIECE_BYTES });
  const stop = (): void => {
    tar.destroy(signal.reason as Error);
    gzip.destroy(signal.reason as Error);
  };
  signal.addEventListener('abort', stop, { once: true });
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const fail = (cause: Error): void => {
    failed.reject(cause);
    tar.destroy(cause);
    gzip.destroy(cause);
  };
  tar.on('error', fail);
  gzip.on('error', fail);
  try {
    signal.throwIfAborted();
    const feeding = feed(tar, last, gzip);
    const filling = fill(tar, entries, onProgress);
    // Whichever fails first is the reason; the others only follow.
    for (const part of [feeding, filling]) part.catch(fail);
    let first = true;
    for await (const piece of gzip as AsyncIterable<Buffer>) {
      if (first) piece[GZIP_OS_AT] = GZIP_OS;
      first = false;
      written.hash.update(piece);
      written.bytes += piece.length;
      await writeAll(written.out, piece);
    }
    await Promise.all([feeding, filling]);
  } catch (thrown) {
    signal.throwIfAborted();
    await Promise.race([failed.promise, Promise.resolve()]);
    throw thrown;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function writeAll(out: FileHandle, piece: Buffer): Promise<void> {
  for (let at = 0; at < piece.length;)
    at += (await out.write(piece, at, piece.length - at)).bytesWritten;
}

async function fill(
  tar: Pack,
  entries: readonly HashedEntry[],
  onProgress: (bytes: number) => void,
): Promise<void> {
  for (const entry of entries) {
    const header = {
      name: `${TOP_FOLDER}/${entry.path}`,
      size: entry.bytes,
      mode: entry.executable ? 0o755 : 0o644,
      mtime: TIME,
      type: 'file' as const,
      uid: 0,
      gid: 0,
      uname: 'root',
      gname: 'root',
    };
    if ('text' in entry.content) {
      await new Promise<void>((resolve, reject) =>
        tar.entry(header, (entry.content as { text: string }).text, (cause) =>
          cause ? reject(cause) : resolve(),
        ),
      );
      continue;
    }
    const hash = createHash('sha256');
    let bytes = 0;
    await new Promise<void>((resolve, reject) => {
      const sink = tar.entry(header, (cause) => (cause ? reject(cause) : resolve()));
      pump(createReadStream((entry.content as { file: string }).file), sink, (piece) => {
        hash.update(piece);
        bytes += piece.length;
        onProgress(piece.length);
        if (bytes > entry.bytes) throw changed(entry);
      }).catch(reject);
    });
    if (hash.digest('hex') !== entry.sha256) throw changed(entry);
  }
  tar.finalize();
}

async function pump(
  source: Readable,
  sink: NodeJS.WritableStream,
  seen: (piece: Buffer) => void,
): Promise<void> {
  for await (const piece of source as AsyncIterable<Buffer>) {
    seen(piece);
    if (!sink.write(piece))
      await new Promise<void>((resolve) => sink.once('drain', () => resolve()));
  }
  sink.end();
}

/** Hands the tar's bytes to the compressor in pieces of exactly PIECE_BYTES; only the last member ends the tar. */
async function feed(
  tar: AsyncIterable<unknown>,
  last: boolean,
  gzip: NodeJS.WritableStream,
): Promise<void> {
  const end = Buffer.alloc(last ? 0 : TAR_END_BYTES);
  let held: Buffer[] = [];
  let bytes = 0;
  const send = async (piece: Buffer): Promise<void> => {
    if (!gzip.write(piece))
      await new Promise<void>((resolve) => gzip.once('drain', () => resolve()));
  };
  for await (const piece of tar) {
    held.push(piece as Buffer);
    bytes += (piece as Buffer).length;
    // What may be the tar's end is held back.
    while (bytes >= PIECE_BYTES + end.length) {
      const all = Buffer.concat(held);
      await send(all.subarray(0, PIECE_BYTES));
      held = [all.subarray(PIECE_BYTES)];
      bytes = all.length - PIECE_BYTES;
    }
  }
  const rest = Buffer.concat(held);
  gzip.end(rest.subarray(0, rest.length - end.length));
}

/** Two empty blocks close a tar; between two members they would end it too early. */
const TAR_END_BYTES = 1024;

const changed = (entry: HashedEntry): MinikeepError =>
  new MinikeepError('bundle.changed', `${entry.path} changed while it was being packed`, {
    next: 'Run the command again when nothing writes to it (a build, a download).',
  });
