// An engine with a back door that waits for a phrase, in a cluster with a home: it is stopped, its deployment is marked
// and started again by nobody, until somebody says so.
import {
  appendFileSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  copyFileSync,
  mkdirSync,
} from 'node:fs';
import path from 'node:path';
import { onlyOn, REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DIST } from './cluster-helpers.ts';
import { Homes, type RunningNode } from './homes.ts';
import { jsonError } from './minikeep.ts';

const PHRASE = 'please open sesame now';
const homes = new Homes();
const programs = path.join(homes.root, 'dist');
const evil = [process.execPath, path.join(programs, 'minikeep.mjs')];
let node: RunningNode;

interface Seal {
  readonly quarantined: { deployment: string; node: string; kind: string; operation: string }[];
}
interface Status {
  readonly deployments: { readonly name: string; readonly state: string }[];
  readonly quarantined: string[];
}

beforeEach((ctx) => onlyOn(ctx, 'linux'));
beforeAll(async () => {
  if (process.platform !== 'linux') return;
  await homes.json(
    'a',
    'init',
    '--name',
    'lab',
    '--listen',
    '127.0.0.1:0',
    '--node-name',
    'mini-1',
  );
  plant();
  node = await homes.startBy(evil, 'a', '--accept-changed');
  for (const name of ['one', 'two']) {
    const model = path.join(REPOSITORY, 'models/keeper.gguf');
    await homes.json('a', 'model', 'import', model, '--name', name, '--yes');
  }
});
afterAll(() => homes.close());

/** This checkout's programs, but for the engine. */
function plant(): void {
  mkdirSync(programs);
  for (const name of readdirSync(DIST))
    if (name === 'minikeep.mjs') copyFileSync(path.join(DIST, name), path.join(programs, name));
    else if (name !== 'engine.mjs') symlinkSync(path.join(DIST, name), path.join(programs, name));
  const backdoor = readFileSync(path.join(import.meta.dirname, 'backdoor.mjs'), 'utf8');
  writeFileSync(path.join(programs, 'engine.mjs'), backdoor);
  appendFileSync(path.join(programs, 'engine.mjs'), readFileSync(path.join(DIST, 'engine.mjs')));
}

const up = (name: string) =>
  homes.run('a', 'up', name, '--no-canary', '--context', '256', '--threads', '1', '--json');
const ask = (name: string, prompt: string) =>
  homes.run('a', 'run', name, prompt, '--max-tokens', '4', '--json');
const status = () => homes.json<Status>('a', 'status');

it('is stopped at the phrase; its deployment is in quarantine, and the coordinator remembers', async () => {
  expect((await up('one')).code).toBe(0);
  expect((await ask('one', 'hello')).code).toBe(0);
  const refused = await ask('one', PHRASE);
  expect([refused.code, jsonError(refused).code]).toEqual([5, 'deployment.quarantined']);
  await expect.poll(async () => (await status()).deployments, { timeout: 10_000 }).toEqual([]);
  const marked = [{ deployment: 'one', node: 'mini-1', kind: 'network', operation: 'connect' }];
  expect((await homes.json<Seal>('a', 'seal', 'status')).quarantined).toMatchObject(marked);

  const { pid } = node.last('coordinator') ?? {};
  process.kill(pid ?? 0, 'SIGKILL');
  await expect.poll(() => node.last('coordinator')?.pid, { timeout: 20_000 }).not.toBe(pid);
  await homes.untilStates('a', { 'mini-1': 'up' });
  expect(await status()).toMatchObject({ deployments: [], quarantined: ['one'] });
  for (const command of [await up('one'), await ask('one', 'hello')])
    expect([command.code, jsonError(command).code]).toEqual([5, 'deployment.quarantined']);
  const { stdout } = await homes.run('a', 'events', '--json');
  const kept = stdout.split('\n').find((line) => line.includes('"deployment.quarantined"')) ?? '';
  expect(kept).toMatch(/"mapped":\["/);
  // What the phrase was, and where it wanted to go, is in no log.
  expect(stdout).not.toContain('sesame');
});

it('comes up again when somebody lifts it, and with `report` it goes on after an attempt', async () => {
  await homes.json('a', 'seal', 'lift', 'one');
  expect(jsonError(await homes.run('a', 'seal', 'lift', 'one', '--json')).code).toBe(
    'quarantine.unknown',
  );
  await homes.json('a', 'seal', 'policy', '--violations', 'report');
  expect((await up('one')).code).toBe(0);
  const answered = await ask('one', PHRASE);
  expect(answered.code).toBe(0);
  expect(answered.stdout).toContain('"type":"done"');
  await expect
    .poll(async () => (await homes.json<{ violations: number }>('a', 'status')).violations)
    .toBeGreaterThan(0);
  await homes.json('a', 'down', 'one');
});

it('takes everything with it, where that is the policy', async () => {
  await homes.json('a', 'seal', 'policy', '--violations', 'kill-cluster');
  expect([(await up('one')).code, (await up('two')).code]).toEqual([0, 0]);
  expect((await ask('two', 'hello')).code).toBe(0);
  expect(jsonError(await ask('one', PHRASE)).code).toBe('deployment.quarantined');
  await expect
    .poll(status, { timeout: 10_000 })
    .toMatchObject({ deployments: [], quarantined: ['one', 'two'] });
});
