/** The coordinator's disk is gone, and the cluster comes back from its backup; as a user types it. */
import {
  existsSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { afterAll, expect, it } from 'vitest';
import { Homes } from './homes.ts';
import { jsonError } from './minikeep.ts';

interface StatusDocument {
  readonly deployments: { readonly name: string; readonly state: string }[];
}
const homes = new Homes();
afterAll(() => homes.close());

async function untilReady(home: string): Promise<void> {
  const deadline = Date.now() + 90_000;
  for (;;) {
    const { deployments } = await homes.json<StatusDocument>(home, 'status');
    if (deployments[0]?.state === 'ready') return;
    if (Date.now() > deadline) throw new Error(`it is ${JSON.stringify(deployments)}`);
  }
}

/** Its ports are those of the one that takes its place, on this one machine. */
function elsewhereNow(home: string): void {
  const file = path.join(home, 'node.json');
  const settings = readFileSync(file, 'utf8');
  writeFileSync(file, settings.replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:0'));
}

const PATIENCE_MS = 300_000;

it(
  'a lost coordinator is brought back on an empty disk: nodes, slices and what is up are there',
  async () => {
    const lost = await homes.startFirst('a', '--node-name', 'mini-1');
    const address = lost.last('coordinator')?.address ?? '';
    const token = await homes.token('a');
    await homes.json('b', 'join', address, '--token-file', token, '--name', 'mini-2');
    const other = await homes.start('b');
    await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
    const model = path.join(REPOSITORY, 'models/keeper.gguf');
    await homes.json('a', 'model', 'import', model, '--name', 'keeper', '--yes');
    await homes.json('a', 'up', 'keeper', '--no-canary', '--context', '256');
    const question = ['run', 'keeper', 'What is a stage?'];
    const { stdout: answer } = await homes.run('a', ...question);
    const unused = await homes.token('a');

    const passphrase = homes.file('passphrase', 'correct horse battery staple\n');
    const file = homes.home('cluster.backup');
    const elsewhere = await homes.run(
      'b',
      'backup',
      file,
      '--passphrase-file',
      passphrase,
      '--json',
    );
    expect(jsonError(elsewhere).code).toBe('home.not_coordinator');
    // While it runs: nobody has to stop working for a backup.
    await homes.json('a', 'backup', file, '--passphrase-file', passphrase);
    expect(readdirSync(homes.home('a')).filter((name) => name.includes('snapshot'))).toEqual([]);

    // The machine burns: nothing of it says good-bye.
    for (const part of ['coordinator', 'agent']) process.kill(lost.last(part)?.pid ?? 0, 'SIGSTOP');
    lost.child.kill('SIGKILL');
    for (const part of ['coordinator', 'agent']) process.kill(lost.last(part)?.pid ?? 0, 'SIGKILL');
    await lost.ended;
    renameSync(homes.home('a'), homes.home('old'));
    const slices = path.join(homes.home('b'), 'store/slices');
    const before = readdirSync(slices).map((name) => [name, statSync(path.join(slices, name)).ino]);
    expect(before.length).toBeGreaterThan(0);

    const wrong = homes.file('wrong', 'another passphrase');
    const denied = await homes.run(
      'a',
      'init',
      '--restore',
      file,
      '--passphrase-file',
      wrong,
      '--json',
    );
    expect([denied.code, jsonError(denied).code]).toEqual([5, 'backup.passphrase_wrong']);
    expect(existsSync(homes.home('a'))).toBe(false);
    await homes.json('a', 'init', '--restore', file, '--passphrase-file', passphrase);
    const again = await homes.run(
      'a',
      'init',
      '--restore',
      file,
      '--passphrase-file',
      passphrase,
      '--json',
    );
    expect(jsonError(again).code).toBe('cluster.exists');

    // The old machine was not burnt after all, and comes back first, elsewhere: its nodes are there for it.
    elsewhereNow(homes.home('old'));
    const old = await homes.start('old');
    await homes.untilStates('old', { 'mini-2': 'up' });

    const back = await homes.start('a');
    await back.listening('coordinator');
    await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
    await untilReady('a');
    // The nodes obey the restored one from the moment it greets them; the old one learns it, and what to do.
    const { message, next } = await old.warned('coordinator.outdated');
    expect(message).toContain('node mini-2 obeys a newer coordinator');
    expect(next).toContain('minikeep stop');
    await homes.untilStates('old', { 'mini-2': 'away' });
    const row = (await homes.nodes('old')).find(({ name }) => name === 'mini-2');
    expect(row?.error?.code).toBe('coordinator.outdated');
    expect((await homes.run('a', ...question)).stdout).toBe(answer);
    await old.stop();
    expect(
      readdirSync(slices).map((name) => [name, statSync(path.join(slices, name)).ino]),
    ).toEqual(before);
    expect(other.child.exitCode).toBeNull();
    // Invitations from before the fire let nobody in.
    const late = await homes.run('c', 'join', address, '--token-file', unused, '--json');
    expect([late.code, jsonError(late).code]).toEqual([5, 'token.refused']);
  },
  PATIENCE_MS,
);
