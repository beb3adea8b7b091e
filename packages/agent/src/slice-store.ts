/**
 * A node's slices on disk: files that are complete and durable, or not there, named by what they are made of.
 *
 *   slices/<slice>.gguf             finished slices, read-only, shared by every agent that uses this folder
 *   slices/<slice>.pieces           what each is made of (manifest.ts)
 *   incoming/<owner>-<slice>.part   (and .pieces) what is being put together; an interrupted one is gone on with, whoever began it
 *   pins/<owner>/<deployment>/…     hard links to slices in use
 *
 * Several agents (a local cluster) may share the folder: a slice is written under a name of its own and renamed, and
 * what one agent evicts stays readable for another through its pin. `owner` tells living processes from dead ones.
 *
 * What goes when room is needed: first what dead processes left half done, then the slices that nobody has pinned, least
 * recently used first. Pinned ones never go.
 */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  chmod,
  link,
  lstat,
  open,
  readdir,
  rename,
  rm,
  stat,
  statfs,
  utimes,
} from 'node:fs/promises';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { makeFolder } from '@minikeep/protocol/rpc';
import { readChunkDigests, readManifest, type PlacedPiece } from './manifest.ts';
import { disown, isOwnerGone, own, ownerName } from './store-owner.ts';
import {
  checkDeployment,
  checkDigest,
  checkOwn,
  codeOf,
  diskFull,
  sliceDamaged,
  sliceMissing,
  unusable,
} from './store-faults.ts';
import { verifyFile } from './verify-file.ts';

/** Left free on the disk, for logs and other programs. */
const DISK_RESERVE_BYTES = 64 * 1024 * 1024;
/** An interrupted transfer that nobody goes on with is given up after this. */
const PART_KEPT_MS = 7 * 86_400_000;
/** A living process writes all the time: a part untouched for so long has none, even if its process id is in use again. */
const PART_STALE_MS = 10 * 60_000;
const PART = /^(.+)-([0-9a-f]{64})\.part$/;
const SLICE = /^([0-9a-f]{64})\.gguf$/;

/** A piece in a stored slice. */
export interface HeldPiece {
  readonly slice: string;
  readonly file: string;
  readonly manifest: string;
  readonly piece: PlacedPiece;
}

interface Unpinned {
  readonly slice: string;
  readonly bytes: number;
  readonly usedMs: number;
}

export class SliceStore {
  readonly #folder: string;
  readonly #owner: string;
  readonly #bytesMax: number;

  private constructor(folder: string, owner: string, bytesMax: number) {
    this.#folder = folder;
    this.#owner = owner;
    this.#bytesMax = bytesMax;
  }

  /**
   * Opens or makes the store and removes what dead processes pinned. `bytesMax` bounds the slices that nobody uses;
   * those in use may exceed it. Throws `store.unusable`.
   */
  static async open(folder: string, bytesMax: number): Promise<SliceStore> {
    const store = new SliceStore(folder, own(ownerName(randomBytes(4).toString('hex'))), bytesMax);
    try {
      for (const part of ['slices', 'incoming', 'pins']) await makeFolder(path.join(folder, part));
      checkOwn(folder, await stat(folder));
      for (const part of ['slices', 'incoming', 'pins']) {
        const own = path.join(folder, part);
        checkOwn(own, await lstat(own));
      }
      const pins = path.join(folder, 'pins');
      for (const name of await readdir(pins))
        if (isOwnerGone(name)) await rm(path.join(pins, name), { recursive: true, force: true });
      await store.#removeParts(PART_KEPT_MS);
    } catch (cause) {
      disown(store.#owner);
      throw unusable(folder, cause);
    }
    return store;
  }

  /** Pins a slice for a deployment if it is held whole. */
  async pin(deployment: string, slice: string): Promise<boolean> {
    const from = this.#slicePath(slice);
    const to = this.#pinPath(deployment, slice);
    if ((await readManifest(this.manifestPath(slice), slice)) === undefined) return false;
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
  async pinnedPath(deployment: string, slice: string): Promise<string> {
    const file = this.#pinPath(deployment, slice);
    if (!(await exists(file))) throw sliceMissing(slice);
    return file;
  }

  /** Of these pieces, those that lie in a stored slice. */
  async held(digests: ReadonlySet<string>): Promise<Map<string, HeldPiece>> {
    const found = new Map<string, HeldPiece>();
    for (const name of await readdir(path.join(this.#folder, 'slices'))) {
      const slice = SLICE.exec(name)?.[1];
      if (slice === undefined) continue;
      const [file, manifest] = [this.#slicePath(slice), this.manifestPath(slice)];
      for (const piece of (await readManifest(manifest, slice)) ?? [])
        if (digests.has(piece.digest) && !found.has(piece.digest))
          found.set(piece.digest, { slice, file, manifest, piece });
    }
    return found;
  }

  /**
   * The file in which a slice is put together: new, or what an earlier attempt left of it. Throws `store.disk_full`
   * when the disk can't hold the rest.
   */
  async claimPart(slice: string, bytes: number): Promise<string> {
    const file = path.join(this.#folder, 'incoming', `${this.#owner}-${checkDigest(slice)}.part`);
    if (!(await exists(file))) await this.#adopt(slice, file);
    // The last step before a part is whole makes it read-only.
    await chmod(file, 0o600).catch(() => {});
    const there = await stat(file).catch(() => undefined);
    await this.#makeRoom(Math.max(0, bytes - (there?.size ?? 0)), bytes);
    return file;
  }

  /** Makes a part, whole and verified, a slice of the store, and pins it. `manifest` is a file of its own beside it. */
  async finishPart(
    deployment: string,
    slice: string,
    part: string,
    manifest: string,
  ): Promise<void> {
    // The manifest first: a slice without one is none.
    await rename(manifest, this.manifestPath(slice));
    await rename(part, this.#slicePath(slice));
    await syncFolder(path.join(this.#folder, 'slices'));
    if (await this.pin(deployment, slice)) return;
    throw new MinikeepError('store.slice_missing', 'a slice vanished right after it was stored', {
      next: 'Another program removes files from the slice store: stop it, or choose another folder.',
    });
  }

  /**
   * Hashes a pinned slice again. Reports the fraction done.
   * @throws `store.slice_damaged` when the file is not what it was; it is then removed from the store.
   */
  async verify(
    deployment: string,
    slice: string,
    onProgress: (fraction: number) => void = () => {},
    signal?: AbortSignal,
  ): Promise<void> {
    const file = await this.pinnedPath(deployment, slice);
    const manifest = this.manifestPath(slice);
    const pieces = await readManifest(manifest, slice);
    if (pieces !== undefined && (await verifyFile(file, manifest, pieces, onProgress, signal)))
      return;
    await this.#remove(slice);
    await rm(file, { force: true });
    throw sliceDamaged(slice);
  }

  /** Digests of the chunks of a piece that is held; undefined if it is no longer. */
  chunkDigests({ manifest, piece }: HeldPiece): Promise<Uint8Array | undefined> {
    return readChunkDigests(manifest, piece);
  }

  /** Lets go of a deployment's slices; nothing is evicted. */
  async unpin(deployment: string): Promise<void> {
    await rm(this.#pinFolder(deployment), { recursive: true, force: true });
  }

  /** Lets go of a deployment's slices, and evicts what no longer fits. */
  async release(deployment: string): Promise<void> {
    await this.unpin(deployment);
    await this.#evict(this.#bytesMax);
  }

  /** Lets go of everything that this process pinned; what it had half done is anybody's to go on with. */
  async close(): Promise<void> {
    await rm(path.join(this.#folder, 'pins', this.#owner), { recursive: true, force: true });
    disown(this.#owner);
    await this.#evict(this.#bytesMax);
  }

  /**
   * Whether these slices (name to bytes) could be put together here: what is still to be written of them, and what
   * there is room for, counting as free what would go: parts of dead processes, slices that nobody has pinned.
   */
  async room(slices: ReadonlyMap<string, number>): Promise<{
    readonly neededBytes: number;
    readonly roomBytes: number;
    readonly folder: string;
  }> {
    let neededBytes = 0;
    for (const [slice, bytes] of slices) {
      if ((await readManifest(this.manifestPath(slice), slice)) !== undefined) continue;
      neededBytes += Math.max(0, bytes - (await this.#partBytes(slice)));
    }
    let roomBytes = await this.#freeBytes();
    for (const { slice, bytes } of await this.#unpinned())
      if (!slices.has(slice)) roomBytes += bytes;
    for (const name of await readdir(path.join(this.#folder, 'incoming'))) {
      const slice = PART.exec(name)?.[2] ?? '';
      if (slices.has(slice) || !(await this.#abandoned(name))) continue;
      roomBytes += await this.#bytesOf('incoming', name);
    }
    return { neededBytes, roomBytes, folder: this.#folder };
  }

  /** What a full disk is called; anything else as it is. */
  async explained(error: unknown, bytes: number): Promise<unknown> {
    const code = codeOf(error);
    if (code === 'ENOSPC' || code === 'EDQUOT')
      return diskFull(this.#folder, bytes, await this.#freeBytes());
    return error;
  }

  manifestPath(slice: string): string {
    return path.join(this.#folder, 'slices', `${checkDigest(slice)}.pieces`);
  }

  /** Takes over what a dead process had of the slice; renaming lets only one have it. */
  async #adopt(slice: string, file: string): Promise<void> {
    const folder = path.join(this.#folder, 'incoming');
    for (const name of await readdir(folder)) {
      const match = PART.exec(name);
      if (match?.[2] !== slice || !(await this.#abandoned(name))) continue;
      try {
        await rename(path.join(folder, name), file);
        return;
      } catch (error) {
        if (codeOf(error) !== 'ENOENT') throw error;
      }
    }
  }

  async #abandoned(part: string): Promise<boolean> {
    if (isOwnerGone(part)) return true;
    if (part.startsWith(this.#owner)) return false;
    const info = await stat(path.join(this.#folder, 'incoming', part)).catch(() => undefined);
    return info !== undefined && Date.now() - info.mtimeMs > PART_STALE_MS;
  }

  async #removeParts(olderMs: number): Promise<void> {
    const folder = path.join(this.#folder, 'incoming');
    for (const name of await readdir(folder)) {
      const info = await stat(path.join(folder, name)).catch(() => undefined);
      // Lists of digests beside a part are of no use to anybody else.
      const kept = PART.test(name) ? olderMs : 0;
      if (info === undefined || Date.now() - info.mtimeMs < kept) continue;
      if (await this.#abandoned(name)) await rm(path.join(folder, name), { force: true });
    }
  }

  /** Evicts for `bytes` more; throws `store.disk_full` when the disk can't hold them even then. */
  async #makeRoom(bytes: number, whole: number): Promise<void> {
    await this.#evict(Math.max(0, this.#bytesMax - bytes));
    if ((await this.#freeBytes()) >= bytes + DISK_RESERVE_BYTES) return;
    await this.#removeParts(0);
    await this.#evict(0);
    const free = await this.#freeBytes();
    // The reserve is a wish; only what can't be written at all is refused.
    if (free < bytes) throw diskFull(this.#folder, whole, free);
  }

  /** Slices that nobody has pinned. What belongs to no slice is removed on the way. */
  async #unpinned(): Promise<Unpinned[]> {
    const folder = path.join(this.#folder, 'slices');
    const found: Unpinned[] = [];
    for (const name of await readdir(folder)) {
      const slice = SLICE.exec(name)?.[1];
      const info: Stats | undefined = await stat(path.join(folder, name)).catch(() => undefined);
      if (info === undefined) continue;
      // More than one link: pinned by this or another agent.
      if (slice !== undefined && info.nlink === 1)
        found.push({ slice, bytes: info.size, usedMs: info.mtimeMs });
      else if (slice === undefined && Date.now() - info.mtimeMs > PART_STALE_MS)
        await this.#removeOrphan(folder, name);
    }
    return found;
  }

  /** Removes the least recently used slices that nobody has pinned until the others take at most `target` bytes. */
  async #evict(target: number): Promise<void> {
    const found = (await this.#unpinned()).toSorted((a, b) => a.usedMs - b.usedMs);
    let total = found.reduce((sum, slice) => sum + slice.bytes, 0);
    for (const { slice, bytes } of found) {
      if (total <= target) return;
      await this.#remove(slice);
      total -= bytes;
    }
  }

  /** A manifest whose slice never came, or a half-written one. */
  async #removeOrphan(folder: string, name: string): Promise<void> {
    const slice = name.slice(0, 64);
    if (!(await exists(path.join(folder, `${slice}.gguf`))))
      await rm(path.join(folder, name), { force: true });
  }

  async #remove(slice: string): Promise<void> {
    await rm(this.#slicePath(slice), { force: true });
    await rm(this.manifestPath(slice), { force: true });
  }

  /** What an attempt that can be gone on with has of the slice. */
  async #partBytes(slice: string): Promise<number> {
    let most = 0;
    for (const name of await readdir(path.join(this.#folder, 'incoming')))
      if (PART.exec(name)?.[2] === slice)
        most = Math.max(most, await this.#bytesOf('incoming', name));
    return most;
  }

  async #bytesOf(part: string, name: string): Promise<number> {
    const info = await stat(path.join(this.#folder, part, name)).catch(() => undefined);
    return info?.size ?? 0;
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#folder);
    return bavail * bsize;
  }

  #slicePath(slice: string): string {
    return path.join(this.#folder, 'slices', `${checkDigest(slice)}.gguf`);
  }

  #pinFolder(deployment: string): string {
    return path.join(this.#folder, 'pins', this.#owner, checkDeployment(deployment));
  }

  #pinPath(deployment: string, slice: string): string {
    return path.join(this.#pinFolder(deployment), `${checkDigest(slice)}.gguf`);
  }
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
