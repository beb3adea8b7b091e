/** Full disks, of a node and of the coordinator: named, with what to do; nothing is lost, and with room it goes on. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY, needCommand, needRoot } from '@minikeep/testkit';
import { afterAll, expect, it } from 'vitest';
import { Homes } from './homes.ts';
import { jsonError } from './minikeep.ts';

const homes = new Homes();
const disks: string[] = [];
afterAll(async () => {
  await Promise.all([...homes.running].map((node) => node.stop()));
  for (const disk of disks) execFileSync('umount', [disk]);
  await homes.close();
});

/** The home's own disk. */
function disk(home: string, size: string): string {
  const folder = homes.home(home);
  mkdirSync(folder, { mode: 0o700 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', folder]);
  disks.push(folder);
  return folder;
}

it('each is told before anything is sent or kept, and with room the same command works', async (ctx) => {
  needRoot(ctx);
  needCommand(ctx, 'mount', 'mount');
  const own = disk('a', '16m');
  const other = disk('b', '3m');
  const first = await homes.startFirst('a', '--node-name', 'mini-1');
  const address = first.last('coordinator')?.address ?? '';
  const token = await homes.token('a');
  await homes.json('b', 'join', address, '--token-file', token, '--name', 'mini-2');
  await homes.start('b');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
  const model = path.join(REPOSITORY, 'models/keeper.gguf');
  await homes.json('a', 'model', 'import', model, '--name', 'keeper', '--yes');

  const up = ['up', 'keeper', '--no-canary', '--context', '256', '--threads', '1', '--json'];
  const refused = await homes.run('a', ...up);
  expect([refused.code, jsonError(refused).code]).toEqual([1, 'store.disk_full']);
  expect(jsonError(refused).message).toContain('node mini-2 has to write');
  expect(jsonError(refused).message).toContain('nothing was sent');
  expect(jsonError(refused).next).toContain('Free space on mini-2');

  const filler = path.join(own, 'filler');
  expect(() => writeFileSync(filler, Buffer.alloc(32 * 1024 ** 2))).toThrow('ENOSPC');
  const invited = await homes.run('a', 'invite', '--json');
  expect([invited.code, jsonError(invited).code]).toEqual([1, 'state.disk_full']);
  expect(jsonError(invited).message).toContain('nothing of this change was kept');
  expect(jsonError(invited).next).toContain('Free space');
  // It still runs, and says what it knows.
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });

  rmSync(filler);
  execFileSync('mount', ['-o', 'remount,size=64m', other]);
  await homes.token('a');
  const done = await homes.run('a', ...up);
  expect([done.stderr, done.code]).toEqual(['', 0]);
}, 120_000);
