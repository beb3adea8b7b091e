/** Slices put together on a real disk from sources that break off, lie, or are not there; nothing verified is lost. */
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PIECE_CHUNK_BYTES } from '@minikeep/gguf';
import { MinikeepError } from '@minikeep/protocol';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SliceStore } from '../src/slice-store.ts';
import { TestSlice, TestSource, bring, testPiece } from './slices.ts';

const MIB = 1024 * 1024;
const LARGE = 10 * PIECE_CHUNK_BYTES + 123;
let folder = '';
let store: SliceStore;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-assemble-'));
  store = await SliceStore.open(folder, 1024 * MIB);
});
afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const incoming = (): string[] => readdirSync(path.join(folder, 'incoming'));
const lost = (): MinikeepError =>
  new MinikeepError('node.unreachable', 'the line is cut', { next: 'Plug it in.', exitCode: 4 });

async function check(slice: TestSlice): Promise<void> {
  expect(readFileSync(await store.pinnedPath('d', slice.digest)).equals(slice.data)).toBe(true);
  await store.verify('d', slice.digest);
  expect(incoming()).toEqual([]);
}

describe('a source that breaks off', () => {
  it('is named, and running again goes on with the next chunk', async () => {
    const slice = new TestSlice([70, LARGE, LARGE]);
    const before = LARGE + 3 * PIECE_CHUNK_BYTES;
    const cut = new TestSource(slice, { breakAfterBytes: before, error: lost() });
    await expect(bring(store, 'd', slice, [cut])).rejects.toMatchObject({
      code: 'node.unreachable',
    });
    expect(incoming().length).toBe(1);
    const whole = new TestSource(slice);
    const { receivedBytes } = await bring(store, 'd', slice, [whole]);
    // At most the chunk that was under way comes again.
    expect(whole.sentBytes + cut.sentBytes).toBeLessThanOrEqual(
      slice.data.byteLength + PIECE_CHUNK_BYTES,
    );
    expect(receivedBytes).toBe(whole.sentBytes);
    await check(slice);
  });

  it('is gone on with by the next agent of the node, from the last whole chunk of a file cut at any byte', async () => {
    const slice = new TestSlice([1000, LARGE]);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: slice.data.byteLength }), async (cutAt) => {
        await expect(
          bring(store, 'd', slice, [new TestSource(slice, { breakAfterBytes: LARGE - 5 })]),
        ).rejects.toThrow('connection lost');
        // The agent ends; the power goes, and the file ends anywhere.
        await store.close();
        const [part = ''] = incoming();
        truncateSync(path.join(folder, 'incoming', part), cutAt);
        store = await SliceStore.open(folder, 1024 * MIB);
        const whole = new TestSource(slice);
        await bring(store, 'd', slice, [whole]);
        expect(whole.sentBytes).toBeLessThanOrEqual(
          slice.data.byteLength - cutAt + 2 * PIECE_CHUNK_BYTES,
        );
        await check(slice);
        await store.unpin('d');
        for (const name of readdirSync(path.join(folder, 'slices')))
          rmSync(path.join(folder, 'slices', name));
      }),
      { numRuns: 12 },
    );
  });

  it('is followed by the next source, which sends only the rest', async () => {
    const slice = new TestSlice([LARGE, 5]);
    const cut = new TestSource(
      slice,
      { breakAfterBytes: 4 * PIECE_CHUNK_BYTES, error: lost() },
      'node a',
    );
    const next = new TestSource(slice, {}, 'node b');
    const failures: string[] = [];
    await bring(store, 'd', slice, [cut, next], new AbortController().signal, failures);
    expect(failures).toEqual(['node a: node.unreachable']);
    expect(cut.sentBytes + next.sentBytes).toBe(slice.data.byteLength);
    await check(slice);
  });
});

describe('a chunk that changed on the way', () => {
  it.each(['chunk', 'digests', 'short'] as const)(
    '(%s) is refused, its sender named; another source goes on',
    async (damage) => {
      const slice = new TestSlice([LARGE]);
      const bad = new TestSource(slice, { damage }, 'node evil');
      await expect(bring(store, 'd', slice, [bad])).rejects.toMatchObject({
        code: 'store.slice_rejected',
        message: expect.stringContaining('node evil') as string,
      });
      const failures: string[] = [];
      const { signal } = new AbortController();
      await bring(store, 'd', slice, [bad, new TestSource(slice)], signal, failures);
      expect(failures).toEqual(['node evil: store.slice_rejected']);
      await check(slice);
    },
  );

  it('in what an earlier attempt left is sent again, alone', async () => {
    const slice = new TestSlice([LARGE]);
    await expect(
      bring(store, 'd', slice, [new TestSource(slice, { breakAfterBytes: 8 * PIECE_CHUNK_BYTES })]),
    ).rejects.toThrow('connection lost');
    const part = path.join(folder, 'incoming', incoming()[0] ?? '');
    const bytes = readFileSync(part);
    bytes[2 * PIECE_CHUNK_BYTES + 9]! ^= 1;
    writeFileSync(part, bytes);
    const whole = new TestSource(slice);
    await bring(store, 'd', slice, [whole]);
    expect(whole.sentBytes).toBe(slice.data.byteLength - 7 * PIECE_CHUNK_BYTES);
    await check(slice);
  });
});

describe('what lies on this disk', () => {
  const shared = testPiece(Buffer.alloc(LARGE, 'layer 7'));

  it('is not sent again', async () => {
    await bring(store, 'old', new TestSlice([10, shared, MIB]));
    const slice = new TestSlice([20, MIB, shared]);
    const source = new TestSource(slice);
    const { receivedBytes } = await bring(store, 'd', slice, [source]);
    expect(receivedBytes).toBe(slice.data.byteLength - LARGE);
    expect(source.sentBytes).toBe(receivedBytes);
    await check(slice);
    // Nothing but what is in use stays pinned.
    await store.release('old');
    await store.release('d');
    const [owner = ''] = readdirSync(path.join(folder, 'pins'));
    expect(readdirSync(path.join(folder, 'pins', owner))).toEqual([]);
  });

  it('is checked like what is sent: where it is damaged, a source goes on', async () => {
    const old = new TestSlice([shared]);
    await bring(store, 'old', old);
    const file = await store.pinnedPath('old', old.digest);
    chmodSync(file, 0o600);
    const bytes = readFileSync(file);
    bytes[3 * PIECE_CHUNK_BYTES]! ^= 1;
    writeFileSync(file, bytes);
    const slice = new TestSlice([20, shared]);
    const source = new TestSource(slice);
    await bring(store, 'd', slice, [source]);
    expect(source.sentBytes).toBe(slice.data.byteLength - 3 * PIECE_CHUNK_BYTES);
    await check(slice);
  });
});

describe('a piece that nobody has', () => {
  it('is named, and what there is stays', async () => {
    const slice = new TestSlice([MIB, MIB]);
    const some = new TestSource(slice);
    const half = { name: some.name, pieces: new Set([0]), fetch: some.fetch.bind(some) };
    await expect(bring(store, 'd', slice, [half])).rejects.toMatchObject({
      code: 'store.piece_unavailable',
      details: { piece: 1 },
    });
    const rest = new TestSource(slice);
    await bring(store, 'd', slice, [rest]);
    expect(rest.sentBytes).toBe(MIB);
    await check(slice);
  });
});

describe('an abort', () => {
  it('ends the work at once, and keeps what was verified', async () => {
    const slice = new TestSlice([LARGE]);
    const stop = new AbortController();
    const source = new TestSource(slice, {
      onChunk: (chunk) => (chunk === 6 ? stop.abort(lost()) : undefined),
      breakAfterBytes: 6 * PIECE_CHUNK_BYTES,
    });
    const other = new TestSource(slice, {}, 'node b');
    await expect(bring(store, 'd', slice, [source, other], stop.signal)).rejects.toMatchObject({
      code: 'node.unreachable',
    });
    expect(other.sentBytes).toBe(0);
    const rest = new TestSource(slice);
    await bring(store, 'd', slice, [rest]);
    expect(rest.sentBytes).toBe(slice.data.byteLength - 6 * PIECE_CHUNK_BYTES);
    await check(slice);
  });
});
