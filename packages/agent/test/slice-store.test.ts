/** The store on a real disk: whole or absent, verified, bounded, shared by several agents, clean when the disk is full. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
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
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SliceStore, type SliceChunk, type StoredSlice } from '../src/slice-store.ts';

const MIB = 1024 * 1024;
let folder = '';
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'minikeep-store-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

async function* chunksOf(data: Uint8Array, size = 300_000): AsyncGenerator<SliceChunk> {
  for (let at = 0; at < data.byteLength; at += size) {
    const part = data.subarray(at, at + size);
    yield { data: part, sha256: createHash('sha256').update(part).digest() };
  }
}

const put = (store: SliceStore, deployment: string, data: Uint8Array): Promise<StoredSlice> =>
  store.put(deployment, data.byteLength, chunksOf(data), () => sha256(data));

const files = (part: string): string[] =>
  readdirSync(path.join(folder, part), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.gguf') || name.endsWith('.part'))
    .sort();

describe('a folder', () => {
  it('that others can write, that is a link or (for root) another user’s, is refused', async () => {
    const refused = (why: RegExp): Promise<void> =>
      expect(SliceStore.open(folder, MIB)).rejects.toMatchObject({
        code: 'store.unusable',
        message: expect.stringMatching(why) as string,
      });
    await (await SliceStore.open(folder, MIB)).close();
    const slices = path.join(folder, 'slices');
    chmodSync(slices, 0o770);
    await refused(/slices can be written by other users/);
    chmodSync(slices, 0o700);
    chmodSync(folder, 0o777);
    await refused(/can be written by other users/);
    chmodSync(folder, 0o700);
    const incoming = path.join(folder, 'incoming');
    rmSync(incoming, { recursive: true });
    symlinkSync(slices, incoming);
    await refused(/incoming is no folder/);
    rmSync(incoming);
    if (process.geteuid?.() === 0) {
      chownSync(slices, 12_345, 12_345);
      await refused(/slices belongs to another user/);
      chownSync(slices, 0, 0);
    }
    await (await SliceStore.open(folder, MIB)).close();
  });
});

describe('a slice', () => {
  it('is stored, pinned, found again by its digest, and read-only', async () => {
    const store = await SliceStore.open(folder, 10 * MIB);
    const data = randomBytes(MIB + 17);
    expect(await store.pin('d', sha256(data))).toBe(false);
    expect(await put(store, 'd', data)).toEqual({
      sha256: sha256(data),
      bytes: data.byteLength,
      alreadyHeld: false,
    });
    const file = await store.pinnedPath('d', sha256(data));
    expect(readFileSync(file).equals(data)).toBe(true);
    await store.verify('d', sha256(data));
    expect(await store.pin('another', sha256(data))).toBe(true);
    expect((await put(store, 'd', data)).alreadyHeld).toBe(true);
    expect(files('incoming')).toEqual([]);
    await store.close();
    expect(readdirSync(path.join(folder, 'pins'))).toEqual([]);
  });

  const faults: Record<string, (data: Uint8Array) => [number, AsyncIterable<SliceChunk>, string]> =
    {
      'with a changed chunk': (data) => [
        data.byteLength,
        (async function* () {
          for await (const chunk of chunksOf(data)) {
            const changed = Uint8Array.from(chunk.data);
            changed[3]! ^= 1;
            yield { ...chunk, data: changed };
          }
        })(),
        sha256(data),
      ],
      'with another digest at the end': (data) => [
        data.byteLength,
        chunksOf(data),
        sha256(new Uint8Array(3)),
      ],
      'shorter than announced': (data) => [data.byteLength + 1, chunksOf(data), sha256(data)],
      'longer than announced': (data) => [data.byteLength - 1, chunksOf(data), sha256(data)],
      'in chunks that are too large': (data) => [
        data.byteLength,
        chunksOf(data, 5 * MIB),
        sha256(data),
      ],
    };
  for (const [name, make] of Object.entries(faults))
    it(`${name} is rejected and leaves nothing`, async () => {
      const store = await SliceStore.open(folder, 20 * MIB);
      const [bytes, chunks, digest] = make(randomBytes(6 * MIB));
      await expect(store.put('d', bytes, chunks, () => digest)).rejects.toMatchObject({
        code: 'store.slice_rejected',
      });
      expect(files('.')).toEqual([]);
    });

  it('whose sender breaks off leaves nothing', async () => {
    const store = await SliceStore.open(folder, 20 * MIB);
    async function* broken(): AsyncGenerator<SliceChunk> {
      yield* chunksOf(randomBytes(MIB));
      throw new Error('connection lost');
    }
    await expect(store.put('d', 2 * MIB, broken(), () => '')).rejects.toThrow('connection lost');
    expect(files('.')).toEqual([]);
  });

  it('that changed on the disk is found out before it is loaded', async () => {
    const store = await SliceStore.open(folder, 20 * MIB);
    const data = randomBytes(MIB);
    await put(store, 'd', data);
    const file = await store.pinnedPath('d', sha256(data));
    chmodSync(file, 0o600);
    data[500] = (data[500] ?? 0) ^ 1;
    writeFileSync(file, data);
    data[500] ^= 1;
    await expect(store.verify('d', sha256(data))).rejects.toMatchObject({
      code: 'store.slice_damaged',
    });
    expect(await store.pin('d', sha256(data))).toBe(false);
  });

  it('can be named by nothing but a digest', async () => {
    const store = await SliceStore.open(folder, MIB);
    for (const name of ['../../etc/passwd', '', 'A'.repeat(64)])
      await expect(store.pin('d', name)).rejects.toMatchObject({ code: 'store.name_invalid' });
    await expect(store.pin('../d', sha256(randomBytes(1)))).rejects.toMatchObject({
      code: 'store.name_invalid',
    });
  });
});

describe('the bound', () => {
  it('evicts the least recently used slices, never those in use', async () => {
    const store = await SliceStore.open(folder, 3 * MIB);
    const all = Array.from({ length: 4 }, () => randomBytes(MIB));
    for (const [i, data] of all.entries()) {
      await put(store, `d${i}`, data);
      if (i > 0) await store.release(`d${i}`);
      // File times are what "recently" is told by.
      await new Promise((r) => setTimeout(r, 15));
    }
    // The first one is pinned and does not count; of the others three fit.
    expect(files('slices').length).toBe(4);
    await put(store, 'd5', randomBytes(MIB));
    expect(await store.pin('x', sha256(all[1]!))).toBe(false);
    expect(await store.pin('x', sha256(all[0]!))).toBe(true);
    expect(await store.pin('x', sha256(all[2]!))).toBe(true);
  });

  it('lets a slice that is larger than itself be used, and evicts it afterwards', async () => {
    const store = await SliceStore.open(folder, MIB);
    const data = randomBytes(2 * MIB);
    await put(store, 'd', data);
    await store.verify('d', sha256(data));
    await store.release('d');
    expect(files('slices')).toEqual([]);
  });
});

describe('several agents', () => {
  it('write the same slices at once, and one keeps what another evicts', async () => {
    const stores = await Promise.all([1, 2, 3, 4].map(() => SliceStore.open(folder, 2 * MIB)));
    const all = Array.from({ length: 6 }, () => randomBytes(MIB));
    await Promise.all(
      stores.flatMap((store) => all.map((data) => put(store, 'd', data).then(() => {}))),
    );
    await Promise.all(stores.slice(1).map((store) => store.close()));
    for (const data of all) await stores[0]!.verify('d', sha256(data));
    await stores[0]!.close();
    expect(files('incoming')).toEqual([]);
    expect(files('slices').length).toBeLessThanOrEqual(2);
  });

  it('remove what a killed one left, and nothing of a living one', async () => {
    const living = await SliceStore.open(folder, 10 * MIB);
    const data = randomBytes(MIB);
    await put(living, 'd', data);
    const [pins] = readdirSync(path.join(folder, 'pins'));
    const gone = spawnSync('true').pid;
    const dead = pins!.replace(/\.\d+\./, `.${gone}.`);
    mkdirSync(path.join(folder, 'pins', dead, 'd'), { recursive: true });
    writeFileSync(path.join(folder, 'incoming', `${dead}-0.part`), 'x');
    await SliceStore.open(folder, 10 * MIB);
    expect(readdirSync(path.join(folder, 'pins'))).toEqual([pins]);
    expect(files('incoming')).toEqual([]);
    await living.verify('d', sha256(data));
  });
});

describe('a full disk', () => {
  it('gives one clear error, and nothing partial stays', async (ctx) => {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', folder]);
    if (mounted.status !== 0) ctx.skip('needs root to mount a small file system');
    try {
      const store = await SliceStore.open(folder, 100 * MIB);
      const small = randomBytes(MIB);
      await put(store, 'd', small);
      await expect(put(store, 'd', randomBytes(5 * MIB))).rejects.toMatchObject({
        code: 'store.disk_full',
      });
      // Full in the middle of writing: another program takes the space after the check.
      const data = randomBytes(MIB + 500_000);
      async function* meanwhile(): AsyncGenerator<SliceChunk> {
        let first = true;
        for await (const chunk of chunksOf(data)) {
          yield chunk;
          if (first) writeFileSync(path.join(folder, 'other'), new Uint8Array(MIB - 200_000));
          first = false;
        }
      }
      await expect(
        store.put('d', data.byteLength, meanwhile(), () => sha256(data)),
      ).rejects.toMatchObject({ code: 'store.disk_full' });
      expect(files('incoming')).toEqual([]);
      await store.verify('d', sha256(small));
      expect(existsSync(path.join(folder, 'other'))).toBe(true);
    } finally {
      execFileSync('umount', [folder]);
    }
  });
});
