/** Whatever is written in whatever pieces arrives, in aligned windows. */
import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WindowWriter } from '../src/index.ts';

const WINDOW = 2 * 1024 * 1024;
let folder = '';
beforeAll(() => void (folder = mkdtempSync(path.join(tmpdir(), 'minikeep-window-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A real file's handle that notes what is written to it, on a disk that takes `most` bytes at once. */
async function noted(file: string, most = Infinity) {
  const handle = await open(file, 'w+');
  const writes: { at: number; bytes: number }[] = [];
  const writev = async (parts: readonly Uint8Array[], at: number) => {
    const all = Buffer.concat(parts);
    const taken = all.subarray(0, most);
    writes.push({ at, bytes: taken.byteLength });
    return handle.writev([taken], at);
  };
  return { handle, writes, writer: new WindowWriter({ writev } as unknown as FileHandle) };
}

it('pieces of any size at any place, with gaps, are the bytes that they should be', async () => {
  const piece = fc.record({
    gap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3 * WINDOW })),
    bytes: fc.integer({ min: 0, max: 2 * WINDOW + 3 }),
    fill: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), fc.boolean(), async (pieces, little) => {
      const file = path.join(folder, 'any');
      const { handle, writes, writer } = await noted(file, little ? 700_001 : Infinity);
      const expected = Buffer.alloc(pieces.reduce((sum, { gap, bytes }) => sum + gap + bytes, 0));
      let at = 0;
      let end = 0;
      for (const { gap, bytes, fill } of pieces) {
        at += gap;
        const data = Buffer.alloc(bytes, fill);
        expected.fill(fill, at, at + bytes);
        // Whoever gave it may use it again once it is released, and not before.
        await writer.write(data, at, () => void data.fill(0));
        at += bytes;
        if (bytes > 0) end = at;
      }
      await writer.flush();
      await handle.close();
      expect((await readFile(file)).equals(expected.subarray(0, end))).toBe(true);
      for (const write of writes)
        expect(Math.floor(write.at / WINDOW)).toBe(
          Math.floor((write.at + write.bytes - 1) / WINDOW),
        );
    }),
    { numRuns: 30 },
  );
});

it('small pieces in a row become whole windows', async () => {
  const { handle, writes, writer } = await noted(path.join(folder, 'row'));
  const data = Buffer.alloc(300_001, 7);
  for (let at = 0; at < 3 * WINDOW; at += data.byteLength) await writer.write(data, at);
  await handle.close();
  expect(writes.slice(0, 3)).toEqual([0, 1, 2].map((n) => ({ at: n * WINDOW, bytes: WINDOW })));
});
