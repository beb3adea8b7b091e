/** A configuration is read from an ordinary file of a bounded size, or refused at once. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { readConfig } from '../src/config-file.ts';

const SCHEMA = z.strictObject({ node: z.string() });
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-config-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const read = (file: string): Promise<unknown> => readConfig(SCHEMA, file, 'agent');

it('of a file is checked', async () => {
  const file = path.join(folder, 'agent.json');
  writeFileSync(file, '{"node":"node-1"}');
  expect(await read(file)).toEqual({ node: 'node-1' });
  truncateSync(file, 3 * 1024 * 1024);
  await expect(read(file)).rejects.toMatchObject({ code: 'config.invalid' });
});

it('of a pipe, a device or a folder is refused at once', async () => {
  const pipe = path.join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  for (const file of [pipe, '/dev/zero', folder])
    await expect(read(file)).rejects.toMatchObject({ code: 'config.invalid', exitCode: 2 });
});

it('that is not there says what to give', async () => {
  await expect(read(path.join(folder, 'none'))).rejects.toMatchObject({
    code: 'config.unreadable',
    next: expect.stringContaining('agent.mjs CONFIG.json') as string,
  });
});
