/** Folders are made for this user alone, and where that can't be there is an error and no endless wait. */
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFolder } from '../src/folders.ts';

let base: string;
beforeAll(() => {
  base = mkdtempSync(path.join(tmpdir(), 'minikeep-folders-'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

it('makes what is missing, also when several want it at once', async () => {
  const deep = path.join(base, 'a/b/c');
  await Promise.all(Array.from({ length: 8 }, () => makeFolder(deep)));
  expect(statSync(deep).isDirectory()).toBe(true);
  for (const part of ['a', 'a/b', 'a/b/c'])
    expect(statSync(path.join(base, part)).mode & 0o777).toBe(0o700);
});

it('leaves what is there as it is', async () => {
  const there = path.join(base, 'there');
  await makeFolder(there);
  chmodSync(there, 0o755);
  await makeFolder(there);
  expect(statSync(there).mode & 0o777).toBe(0o755);
});

it('says what the system says', async () => {
  const file = path.join(base, 'file');
  writeFileSync(file, '');
  await expect(makeFolder(path.join(file, 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

it.runIf(process.platform === 'linux')('ends below /proc, too', async () => {
  await expect(makeFolder('/proc/nowhere/deep')).rejects.toMatchObject({ code: 'ENOENT' });
});
