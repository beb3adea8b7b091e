/**
 * A node's slices on disk: content-addressed files that are complete and durable, or not there.
 *
 *   slices/<sha256>.gguf            finished slices, read-only, shared by every agent that uses this folder
 *   incoming/<owner>-<n>.part       what is being written; renamed when it is whole, verified and synced
 *   pins/<owner>/<deployment>/…     hard links to slices in use
 *
 * Several agents (a local cluster) may share the folder: a slice is written under a name of its own and renamed, and
 * what one agent evicts stays readable for another through its pin. `owner` tells living processes from dead ones.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import {
  link,
  lstat,
  open,
  readdir,
  rename,
  rm,
  stat,
  statfs,
  utimes,
  type FileHandle,
} from 'node:fs/promises';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { isOwnerGone, ownerName } from './store-owner.ts';
import { makeFolder } from '@minikeep/protocol/rpc';

export const SLICE_CHUNK_BYTES_MAX = 4 * 1024 * 1024;
/** Read size when hashing: short enough that the event loop stays responsive. */
const HASH_CHUNK_BYTES = 1024 * 1024;
/** Left free on the disk, for logs and other programs. */
const DISK_RESERVE_BYTES = 64 * 1024 * 1024;
const DEPLOYMENT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;

/** One piece of a slice with the digest that its sender computed (32 bytes). */
export interface SliceChunk {
  readonly data: Uint8Array;
  readonly sha256: Uint8Array;
}

export interface StoredSlice {
  readonly sha256: string;
  readonly bytes: number;
  readonly alreadyHeld: boolean;
}

export class SliceStore {
  readonly #folder: string;
  readonly #owner: string;
  readonly #bytesMax: number;
  #counter = 0;

  private constructor(folder: string, owner: string, bytesMax: number) {
    this.#folder = folder;
    this.#owner = owner;
    this.#bytesMax = bytesMax;
  }

  /**
   * Opens or makes the store and removes what dead processes left. `bytesMax` bounds the slices that nobody uses;
   * those in use may exceed it. Throws `store.unusable`.
   */
  static async open(folder: string, bytesMax: number): Promise<SliceStore> {
    const store = new SliceStore(folder, ownerName(randomBytes(4).toString('hex')), bytesMax);
    try {
      for (const part of ['slices', 'incoming', 'pins']) await makeFolder(path.join(folder, part));
      checkOwn(folder, await stat(folder));
      for (const part of ['slices', 'incoming', 'pins']) {
        const own = path.join(folder, part);
        checkOwn(own, await lstat(own));
      }
      for (const part of ['incoming', 'pins']) {
        for (const name of await readdir(path.join(folder, part)))
          if (isOwnerGone(name))
            await rm(path.join(folder, part, name), { recursive: true, force: true });
      }
    } catch (cause) {
      if (cause instanceof MinikeepError) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MinikeepError('store.unusable', `can't use the slice store in ${folder}: ${why}`, {
        next: 'Check that this user may write there, or choose another folder with XDG_CACHE_HOME.',
        cause,
      });
    }
    return store;
  }

  /** Pins a slice for a deployment if it is held. */
  async pin(deployment: string, sha256: string): Promise<boolean> {
    const from = this.#slicePath(sha256);
    const to = this.#pinPath(deployment, sha256);
    await makeFolder(path.dirname(to));
    try {
      await link(from, to);
      const now = new Date();
      await utimes(from, now, now);
      return true;
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return true;
      if (codeOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** The path of a pinned slice, for the engine. Throws `store.slice_missing`. */
  async pinnedPath(deployment: string, sha256: string): Promise<string> {
    const file = this.#pinPath(deployment, sha256);
    if (!(await exists(file)))
      throw new MinikeepError('store.slice_missing', `slice ${sha256.slice(0, 12)} is not here`, {
        next: 'Deploy again: the coordinator sends what is missing.',
      });
    return file;
  }

  /** Stores a slice from its chunks and pins it. Throws `store.*`; nothing partial stays. */
  async put(
    deployment: string,
    bytes: number,
    chunks: AsyncIterable<SliceChunk>,
    wholeDigest: () => string,
  ): Promise<StoredSlice> {
    await this.#makeRoom(bytes);
    const part = path.join(this.#folder, 'incoming', `${this.#owner}-${this.#counter++}.part`);
    try {
      const sha256 = await this.#receive(part, bytes, chunks, wholeDigest);
      const target = this.#slicePath(sha256);
      const alreadyHeld = await exists(target);
      await rename(part, target);
      await syncFolder(path.dirname(target));
      if (!(await this.pin(deployment, sha256)))
        throw new MinikeepError(
          'store.slice_missing',
          'a slice vanished right after it was stored',
          {
            next: 'Another program removes files from the slice store: stop it, or choose another folder.',
          },
        );
      return { sha256, bytes, alreadyHeld };
    } catch (error) {
      await rm(part, { force: true });
      throw await this.#explained(error, bytes);
    }
  }

  /**
   * Hashes a pinned slice again. Reports the fraction done.
   * @throws `store.slice_damaged` when the file is not what it was; it is then removed from the store.
   */
  async verify(
    deployment: string,
    sha256: string,
    onProgress: (fraction: number) => void = () => {},
    signal?: AbortSignal,
  ): Promise<void> {
    const file = await this.pinnedPath(deployment, sha256);
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size } = await handle.stat();
      const found = await hashFile(handle, size, onProgress, signal);
      if (found === sha256) return;
    } finally {
      await handle.close();
    }
    await rm(this.#slicePath(sha256), { force: true });
    await rm(file, { force: true });
    throw new MinikeepError(
      'store.slice_damaged',
      `slice ${sha256.slice(0, 12)} on this node's disk is not what was stored`,
      { next: 'Deploy again: it is sent anew. If it happens again, check the disk.' },
    );
  }

  /** Lets go of a deployment's slices, and evicts what no longer fits. */
  async release(deployment: string): Promise<void> {
    await rm(this.#pinFolder(deployment), { recursive: true, force: true });
    await this.#evict(this.#bytesMax);
  }

  /** Lets go of everything that this process pinned. */
  async close(): Promise<void> {
    await rm(path.join(this.#folder, 'pins', this.#owner), { recursive: true, force: true });
    await this.#evict(this.#bytesMax);
  }

  async #receive(
    part: string,
    bytes: number,
    chunks: AsyncIterable<SliceChunk>,
    wholeDigest: () => string,
  ): Promise<string> {
    const handle = await open(part, 'wx', 0o400);
    try {
      const whole = createHash('sha256');
      let written = 0;
      for await (const chunk of chunks) {
        checkChunk(chunk, bytes - written);
        whole.update(chunk.data);
        for (let at = 0; at < chunk.data.byteLength;) {
          const done = await handle.write(chunk.data, at, chunk.data.byteLength - at, written + at);
          at += done.bytesWritten;
        }
        written += chunk.data.byteLength;
      }
      const sha256 = whole.digest('hex');
      if (written !== bytes) throw damaged(`${written} bytes came, ${bytes} were announced`);
      if (sha256 !== wholeDigest()) throw damaged('its digest is not the one announced');
      await handle.sync();
      return sha256;
    } finally {
      await handle.close();
    }
  }

  /** Evicts for `bytes` more; throws `store.disk_full` when the disk can't hold them even then. */
  async #makeRoom(bytes: number): Promise<void> {
    await this.#evict(Math.max(0, this.#bytesMax - bytes));
    if ((await this.#freeBytes()) >= bytes + DISK_RESERVE_BYTES) return;
    await this.#evict(0);
    const free = await this.#freeBytes();
    // The reserve is a wish; only what can't be written at all is refused.
    if (free < bytes) throw diskFull(this.#folder, bytes, free);
  }

  /** Removes the least recently used slices that nobody has pinned until the others take at most `target` bytes. */
  async #evict(target: number): Promise<void> {
    const folder = path.join(this.#folder, 'slices');
    const found: { file: string; bytes: number; usedMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const file = path.join(folder, name);
      const info = await stat(file).catch(() => undefined);
      // More than one link: pinned by this or another agent.
      if (info !== undefined && info.nlink === 1)
        found.push({ file, bytes: info.size, usedMs: info.mtimeMs });
    }
    found.sort((a, b) => a.usedMs - b.usedMs);
    let total = found.reduce((sum, slice) => sum + slice.bytes, 0);
    for (const slice of found) {
      if (total <= target) return;
      await rm(slice.file, { force: true });
      total -= slice.bytes;
    }
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#folder);
    return bavail * bsize;
  }

  async #explained(error: unknown, bytes: number): Promise<unknown> {
    const code = codeOf(error);
    if (code === 'ENOSPC' || code === 'EDQUOT')
      return diskFull(this.#folder, bytes, await this.#freeBytes());
    return error;
  }

  #slicePath(sha256: string): string {
    if (!DIGEST.test(sha256)) throw badName('digest', sha256);
    return path.join(this.#folder, 'slices', `${sha256}.gguf`);
  }

  #pinFolder(deployment: string): string {
    if (!DEPLOYMENT_NAME.test(deployment)) throw badName('deployment', deployment);
    return path.join(this.#folder, 'pins', this.#owner, deployment);
  }

  #pinPath(deployment: string, sha256: string): string {
    if (!DIGEST.test(sha256)) throw badName('digest', sha256);
    return path.join(this.#pinFolder(deployment), `${sha256}.gguf`);
  }
}

function checkChunk(chunk: SliceChunk, room: number): void {
  if (chunk.data.byteLength > SLICE_CHUNK_BYTES_MAX) throw damaged('a chunk is too large');
  if (chunk.data.byteLength > room) throw damaged('more bytes came than were announced');
  const digest = createHash('sha256').update(chunk.data).digest();
  if (!digest.equals(chunk.sha256)) throw damaged('a chunk arrived changed');
}

async function hashFile(
  handle: FileHandle,
  size: number,
  onProgress: (fraction: number) => void,
  signal: AbortSignal | undefined,
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(HASH_CHUNK_BYTES, Math.max(1, size)));
  let done = 0;
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, done);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
    onProgress(Math.min(1, done / size));
  }
}

/** Who else can write there could exchange a slice between its check and its use, or lead us to files elsewhere. */
function checkOwn(folder: string, info: Stats): void {
  const uid = process.geteuid?.();
  const why = !info.isDirectory()
    ? 'is no folder'
    : uid !== undefined && info.uid !== uid
      ? 'belongs to another user'
      : // A sticky folder (/tmp) lets nobody else rename or remove what is ours in it.
        (info.mode & 0o022) !== 0 && (info.mode & 0o1000) === 0
        ? 'can be written by other users'
        : undefined;
  if (why === undefined) return;
  throw new MinikeepError('store.unusable', `can't use the slice store: ${folder} ${why}`, {
    next: 'Make it a folder that only this user can write, or choose another one with XDG_CACHE_HOME.',
  });
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

function damaged(what: string): MinikeepError {
  return new MinikeepError('store.slice_rejected', `a slice was not stored: ${what}`, {
    next: 'Try again; if it happens again, look at the network between the nodes.',
  });
}

function badName(kind: string, name: string): MinikeepError {
  return new MinikeepError('store.name_invalid', `"${name.slice(0, 80)}" is not a ${kind}`, {
    next: 'This is a fault of the caller: compare versions with `minikeep nodes`.',
  });
}

function diskFull(folder: string, needed: number, free: number): MinikeepError {
  const size = (n: number): string =>
    n < 2 ** 30 ? `${(n / 2 ** 20).toFixed(2)} MiB` : `${(n / 2 ** 30).toFixed(2)} GiB`;
  return new MinikeepError(
    'store.disk_full',
    `the disk is full: a slice of ${size(needed)} does not fit into ${folder} (${size(free)} free)`,
    {
      next: 'Free space there, or choose a folder on a larger disk with XDG_CACHE_HOME.',
      details: { needed_bytes: needed, free_bytes: free },
    },
  );
}
