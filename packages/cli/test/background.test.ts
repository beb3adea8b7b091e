/** A node that is left running where nothing manages services: started once, found again, ended in order. */
import { readFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import { Homes } from './homes.ts';
import { jsonError } from './minikeep.ts';

const homes = new Homes();
const cluster = 'one';
afterAll(async () => {
  await homes.run(cluster, 'stop');
  await homes.close();
});

interface Started {
  node: string;
  pid: number;
  log: string;
  again: boolean;
}

it('runs on when the command has ended, is not started twice, and ends when told', async () => {
  await homes.json(
    cluster,
    'init',
    '--name',
    'lab',
    '--node-name',
    'mini-1',
    '--listen',
    '127.0.0.1:0',
  );
  expect(jsonError(await homes.run(cluster, 'stop', '--json'))).toMatchObject({
    code: 'stop.not_running',
  });
  const first = await homes.json<Started>(cluster, 'start', '--background');
  expect(first).toMatchObject({ node: 'mini-1', again: false });
  expect((await homes.nodes(cluster)).map((node) => node.name)).toEqual(['mini-1']);
  expect(await homes.json<Started>(cluster, 'start', '--background')).toMatchObject({
    pid: first.pid,
    again: true,
  });
  expect(readFileSync(first.log, 'utf8')).toContain('"type":"listening","process":"agent"');
  expect(await homes.json(cluster, 'stop')).toEqual({ node: 'mini-1', pid: first.pid });
  expect((await homes.run(cluster, 'nodes')).code).toBe(4);
  // Its home and its ports are free again.
  const second = await homes.json<Started>(cluster, 'start', '--background');
  expect(second.again).toBe(false);
  expect(second.pid).not.toBe(first.pid);
});

it('that runs in the foreground is known, and leaves no mark when it has ended', async () => {
  const home = 'taken';
  await homes.json(home, 'init', '--name', 'lab', '--listen', '127.0.0.1:0');
  const holder = await homes.start(home);
  await expect
    .poll(() => homes.json<Started>(home, 'start', '--background').then((it) => it.again), {
      timeout: 30_000,
    })
    .toBe(true);
  await holder.stop();
  expect(() => homes.read(home, 'started.json')).toThrow('ENOENT');
});
