/** The store on a real disk: whole or absent, verified, bounded, shared by several agents, clean when the disk is full. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SliceStore } from '../src/slice-store.ts';
import { TestSlice, TestSource, bring } from './slices.ts';

const MIB = 1024 * 1024;
let folder = '';
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'minikeep-store-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const files = (part: string): string[] =>
  readdirSync(path.join(folder, part), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(gguf|part|pieces)$/.test(name))
    .sort((a, b) => (a < b ? -1 : 1));
const slices = (): string[] => files('slices').filter((name) => name.endsWith('.gguf'));

describe('a folder', () => {
  it('that others can write, that is a link or (for root) another user’s, is refused', async () => {
    const refused = (why: RegExp): Promise<void> =>
      expect(SliceStore.open(folder, MIB)).rejects.toMatchObject({
        code: 'store.unusable',
        message: expect.stringMatching(why) as string,
      });
    await (await SliceStore.open(folder, MIB)).close();
    const stored = path.join(folder, 'slices');
    chmodSync(stored, 0o770);
    await refused(/slices can be written by other users/);
    chmodSync(stored, 0o700);
    chmodSync(folder, 0o777);
    await refused(/can be written by other users/);
    chmodSync(folder, 0o700);
    const incoming = path.join(folder, 'incoming');
    rmSync(incoming, { recursive: true });
    symlinkSync(stored, incoming);
    await refused(/incoming is no folder/);
    rmSync(incoming);
    if (process.geteuid?.() === 0) {
      chownSync(stored, 12_345, 12_345);
      await refused(/slices belongs to another user/);
      chownSync(stored, 0, 0);
    }
    await (await SliceStore.open(folder, MIB)).close();
  });
});

describe('a slice', () => {
  it('is stored, pinned, found again by its digest, and read-only', async () => {
    const store = await SliceStore.open(folder, 10 * MIB);
    const slice = new TestSlice([100, MIB + 17, 3]);
    expect(await store.pin('d', slice.digest)).toBe(false);
    expect(await bring(store, 'd', slice)).toEqual({
      bytes: slice.data.byteLength,
      receivedBytes: slice.data.byteLength,
    });
    const file = await store.pinnedPath('d', slice.digest);
    expect(readFileSync(file).equals(slice.data)).toBe(true);
    await store.verify('d', slice.digest);
    expect(await store.pin('another', slice.digest)).toBe(true);
    expect(files('incoming')).toEqual([]);
    await store.close();
    expect(readdirSync(path.join(folder, 'pins'))).toEqual([]);
  });

  it.each(['slice', 'end', 'manifest'])(
    'whose %s changed on the disk is found out before it is loaded',
    async (what) => {
      const store = await SliceStore.open(folder, 20 * MIB);
      const slice = new TestSlice([MIB, 2 * MIB + 5]);
      await bring(store, 'd', slice);
      const file =
        what === 'manifest'
          ? store.manifestPath(slice.digest)
          : await store.pinnedPath('d', slice.digest);
      chmodSync(file, 0o600);
      const bytes = readFileSync(file);
      if (what === 'end') writeFileSync(file, Buffer.concat([bytes, Buffer.from('x')]));
      else {
        bytes[bytes.byteLength - 50]! ^= 1;
        writeFileSync(file, bytes);
      }
      await expect(store.verify('d', slice.digest)).rejects.toMatchObject({
        code: 'store.slice_damaged',
      });
      expect(await store.pin('d', slice.digest)).toBe(false);
      expect(files('.')).toEqual([]);
      await bring(store, 'd', slice);
      await store.verify('d', slice.digest);
    },
  );

  it('can be named by nothing but a digest', async () => {
    const store = await SliceStore.open(folder, MIB);
    for (const name of ['../../etc/passwd', '', 'A'.repeat(64)])
      await expect(store.pin('d', name)).rejects.toMatchObject({ code: 'store.name_invalid' });
    await expect(store.pin('../d', 'a'.repeat(64))).rejects.toMatchObject({
      code: 'store.name_invalid',
    });
  });
});

describe('the bound', () => {
  it('evicts the least recently used slices, never those in use', async () => {
    const store = await SliceStore.open(folder, 3 * MIB);
    const all = Array.from({ length: 4 }, () => new TestSlice([MIB]));
    for (const [i, slice] of all.entries()) {
      await bring(store, `d${i}`, slice);
      if (i > 0) await store.release(`d${i}`);
      // File times are what "recently" is told by.
      const seconds = 1_000_000 + i;
      utimesSync(path.join(folder, 'slices', `${slice.digest}.gguf`), seconds, seconds);
    }
    // The first one is pinned and does not count; of the others three fit.
    expect(slices().length).toBe(4);
    await bring(store, 'd5', new TestSlice([MIB]));
    expect(await store.pin('x', all[1]!.digest)).toBe(false);
    expect(await store.pin('x', all[0]!.digest)).toBe(true);
    expect(await store.pin('x', all[2]!.digest)).toBe(true);
    // What is evicted takes its manifest with it.
    expect(files('slices').length).toBe(2 * slices().length);
  });

  it('lets a slice that is larger than itself be used, and evicts it afterwards', async () => {
    const store = await SliceStore.open(folder, MIB);
    const slice = new TestSlice([2 * MIB]);
    await bring(store, 'd', slice);
    await store.verify('d', slice.digest);
    await store.release('d');
    expect(files('slices')).toEqual([]);
  });
});

describe('several agents', () => {
  it('bring the same slices at once, and one keeps what another evicts', async () => {
    const stores = await Promise.all([1, 2, 3, 4].map(() => SliceStore.open(folder, 2 * MIB)));
    const all = Array.from({ length: 6 }, () => new TestSlice([10, MIB]));
    await Promise.all(
      stores.flatMap((store) => all.map((slice) => bring(store, 'd', slice).then(() => {}))),
    );
    await Promise.all(stores.slice(1).map((store) => store.close()));
    for (const slice of all) await stores[0]!.verify('d', slice.digest);
    await stores[0]!.close();
    expect(files('incoming')).toEqual([]);
    expect(slices().length).toBeLessThanOrEqual(2);
  });

  it('remove what a killed one pinned, and nothing of a living one', async () => {
    const living = await SliceStore.open(folder, 10 * MIB);
    const slice = new TestSlice([MIB]);
    await bring(living, 'd', slice);
    const [pins] = readdirSync(path.join(folder, 'pins'));
    const gone = spawnSync('true').pid;
    const dead = pins!.replace(/\.\d+\./, `.${gone}.`);
    mkdirSync(path.join(folder, 'pins', dead, 'd'), { recursive: true });
    const old = path.join(folder, 'incoming', `${dead}-${'a'.repeat(64)}.part`);
    writeFileSync(old, 'x');
    const kept = path.join(folder, 'incoming', `${dead}-${'b'.repeat(64)}.part`);
    writeFileSync(kept, 'x');
    utimesSync(old, 1_000, 1_000);
    await SliceStore.open(folder, 10 * MIB);
    expect(readdirSync(path.join(folder, 'pins'))).toEqual([pins]);
    // Half a slice is kept for a week, for whoever goes on with it.
    expect(files('incoming')).toEqual([path.basename(kept)]);
    await living.verify('d', slice.digest);
  });
});

describe('a full disk', () => {
  it('is known before anything is sent: what is held or begun need not be written, what nobody uses goes', async (ctx) => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder]);
    if (mounted.status !== 0) ctx.skip('needs root to mount a small file system');
    try {
      const store = await SliceStore.open(folder, 100 * MIB);
      const [used, unused] = [new TestSlice([MIB]), new TestSlice([MIB + 1])];
      await bring(store, 'd', used);
      await bring(store, 'e', unused);
      const wanted = 'f'.repeat(64);
      const room = (...slices: [string, number][]) => store.room(new Map(slices));
      const pinned = await room([wanted, 3 * MIB]);
      expect(pinned).toMatchObject({ neededBytes: 3 * MIB, folder });
      // Both are in use: less than what is left of 4 MiB.
      expect(pinned.roomBytes).toBeLessThan(2 * MIB);
      await store.unpin('e');
      const { roomBytes } = await room([wanted, 3 * MIB]);
      expect(roomBytes).toBe(pinned.roomBytes + MIB + 1);
      // One that is asked for again does not go, and is not written again.
      expect(await room([unused.digest, MIB + 1])).toMatchObject({
        neededBytes: 0,
        roomBytes: pinned.roomBytes,
      });
      const part = path.join(folder, 'incoming', `other.1.0-${wanted}.part`);
      writeFileSync(part, new Uint8Array(MIB / 2));
      expect((await room([wanted, 3 * MIB])).neededBytes).toBe(2.5 * MIB);
    } finally {
      spawnSync('umount', [folder]);
    }
  });

  it('gives one clear error, and nothing partial stays', async (ctx) => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder]);
    if (mounted.status !== 0) ctx.skip('needs root to mount a small file system');
    try {
      const store = await SliceStore.open(folder, 100 * MIB);
      const small = new TestSlice([MIB]);
      await bring(store, 'd', small);
      await expect(bring(store, 'd', new TestSlice([5 * MIB]))).rejects.toMatchObject({
        code: 'store.disk_full',
      });
      // What a dead agent left half done makes room.
      const dead = `x.${spawnSync('true').pid}.0-${'c'.repeat(64)}.part`;
      const [pins] = readdirSync(path.join(folder, 'pins'));
      const name = pins!.replace(/\.\d+\..*/, '') + dead.slice(1);
      writeFileSync(path.join(folder, 'incoming', name), new Uint8Array(2 * MIB));
      // Full in the middle of writing: another program takes the space after the check.
      const large = new TestSlice([2 * MIB + 500_000]);
      const other = path.join(folder, 'other');
      const source = new TestSource(large, {
        onChunk: (chunk) => {
          if (chunk === 1) writeFileSync(other, new Uint8Array(MIB));
        },
      });
      const failures: string[] = [];
      const signal = new AbortController().signal;
      await expect(bring(store, 'd', large, [source], signal, failures)).rejects.toMatchObject({
        code: 'store.disk_full',
      });
      // It is this node's fault, not the source's.
      expect(failures).toEqual([]);
      expect(files('incoming')).toEqual([]);
      await store.verify('d', small.digest);
      expect(existsSync(other)).toBe(true);
      rmSync(other);
      await bring(store, 'd', large);
      await store.verify('d', large.digest);
    } finally {
      execFileSync('umount', [folder]);
    }
  });
});
