/**
 * Clusters on one network find their own machines by multicast, and nobody else's: namespaces on one bridge. Root on
 * Linux.
 */
import { needCommand, needRoot, onlyOn } from '@minikeep/testkit';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { jsonError } from './minikeep.ts';
import { Machine, ip } from './namespace-machine.ts';

const TIMEOUT_MS = 240_000;
const WAIT = { timeout: 90_000, interval: 300 };

describe('clusters on one network', { timeout: TIMEOUT_MS }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-discovery-'));
  const machines: Machine[] = [];
  afterAll(async () => {
    for (const machine of machines) await machine.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  /** On the first one's bridge. */
  function plugIn(machine: Machine, number: number): void {
    const [first] = machines;
    if (first === undefined || machine === first) return;
    ip(
      '-n',
      machine.space,
      'link',
      'add',
      'eth1',
      'type',
      'veth',
      'peer',
      'name',
      `to${number}`,
      'netns',
      first.space,
    );
    ip('-n', first.space, 'link', 'set', `to${number}`, 'master', 'eth1', 'up');
    machine.set(1, 'up');
    machine.readdress(1, number);
  }

  it('are found by what a token says of them, and not mixed up; moved, they are found again', async (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    needCommand(ctx, 'ip', 'iproute2');
    const names = ['a', 'x', 'b'];
    try {
      for (const [i, name] of names.entries()) machines.push(new Machine(folder, name, i + 1));
    } catch {
      return ctx.skip('not here: network namespaces (a container without the right to make them)');
    }
    const [a, x, b] = machines as [Machine, Machine, Machine];
    ip('-n', a.space, 'link', 'add', 'eth1', 'type', 'bridge');
    a.set(1, 'up');
    a.readdress(1, 1);
    for (const [i, machine] of machines.entries()) plugIn(machine, i + 1);

    for (const machine of [a, x]) {
      await machine.json('init', '--name', 'lab', '--node-name', machine === a ? 'a' : 'x');
      machine.start();
      await expect.poll(async () => (await machine.run(['nodes'])).code, WAIT).toBe(0);
    }
    const token = path.join(folder, 'token');
    writeFileSync(token, (await a.json<{ token: string }>('invite')).token);
    // Where the token says, there is nobody any more.
    a.readdress(1, 41);
    const told = await b.run(['join', '--token-file', token, '--no-discovery', '--json']);
    expect([told.code, jsonError(told).code]).toEqual([4, 'join.not_found']);
    expect(await b.json('join', '--token-file', token, '--name', 'b')).toMatchObject({ node: 'b' });
    b.start();
    const states = async (machine: Machine): Promise<string[]> =>
      (await machine.json<{ nodes: { name: string; state: string }[] }>('nodes')).nodes.map(
        ({ name, state }) => `${name} ${state}`,
      );
    await expect.poll(() => states(a), WAIT).toEqual(['a up', 'b up']);
    expect(await states(x)).toEqual(['x up']);

    // Both move, and nobody tells them.
    a.readdress(1, 51);
    b.readdress(1, 52);
    await expect
      .poll(async () => {
        const { nodes } = await a.json<{
          nodes: { name: string; state: string; address: string }[];
        }>('nodes');
        return nodes.map(({ state, address }) => `${state} ${address}`)[1];
      }, WAIT)
      .toBe('up 10.91.1.52:7422');
  });
});
