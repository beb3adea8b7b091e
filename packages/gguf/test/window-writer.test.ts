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

/** A real file's handle that notes what is written to it. */
async function noted(file: string) {
  const handle = await open(file, 'w+');
  const writes: { at: number; bytes: number }[] = [];
  const write = async (buffer: Uint8Array, from: number, bytes: number, at: number) => {
    writes.push({ at, bytes });
    return handle.write(buffer, from, bytes, at);
  };
  return { handle, writes, writer: new WindowWriter({ write } as unknown as FileHandle) };
}

it('pieces of any size at any place, with gaps, are the bytes that they should be', async () => {
  const piece = fc.record({
    gap: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 3 * WINDOW })),
    bytes: fc.integer({ min: 0, max: 2 * WINDOW + 3 }),
    fill: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      const file = path.join(folder, 'any');
      const { handle, writes, writer } = await noted(file);
      const expected = Buffer.alloc(pieces.reduce((sum, { gap, bytes }) => sum + gap + bytes, 0));
      let at = 0;
      let end = 0;
      for (const { gap, bytes, fill } of pieces) {
        at += gap;
        await writer.write(expected.fill(fill, at, at + bytes).subarray(at, at + bytes), at);
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
