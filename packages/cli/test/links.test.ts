/**
 * Two machines with two cables between them: network namespaces and pairs of veth. A cable is pulled in the middle of an
 * answer, and the answer must be the one that nobody disturbed. Root on Linux.
 */
import { needCommand, needRoot, onlyOn, REPOSITORY } from '@minikeep/testkit';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Machine, ip } from './namespace-machine.ts';

const TIMEOUT_MS = 240_000;
const WAIT = { timeout: 90_000, interval: 300 };
const QUESTION = 'Why is a model not trusted?';
/** After so many tokens the cable is pulled. */
const CUT_AFTER = 5;
/** Both cables, by the third number of their addresses. */
const CABLES = [1, 2] as const;

interface LinkDocument {
  readonly interface: string;
  readonly up: boolean;
  readonly in_use: boolean;
  readonly bytes_per_second: number | null;
}

interface Answer {
  readonly text: string;
  readonly tokens: number;
}

describe('two machines with two cables', { timeout: TIMEOUT_MS }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-links-'));
  const machines: Machine[] = [];
  afterAll(async () => {
    for (const machine of machines) await machine.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Asks on the first machine; `onTokens` when so many have come. */
  async function answer(a: Machine, onTokens = (): void => {}): Promise<Answer> {
    let told = false;
    const args = ['run', 'keeper', QUESTION, '--temperature', '0', '--json'];
    const ended = await a.run(args, (text) => {
      if (told || text.split('\n').length <= CUT_AFTER) return;
      told = true;
      onTokens();
    });
    if (ended.code !== 0) throw new Error(ended.stderr);
    const events = ended.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; text?: string; token_ids?: number[] });
    return {
      text: events.map(({ text }) => text ?? '').join(''),
      tokens: events.at(-1)?.token_ids?.length ?? 0,
    };
  }

  it('go on when one is pulled, whichever: an answer that is being computed is the same', async (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    needCommand(ctx, 'ip', 'iproute2');
    let a: Machine;
    let b: Machine;
    try {
      machines.push((a = new Machine(folder, 'a', 1)));
      machines.push((b = new Machine(folder, 'b', 2)));
    } catch {
      return ctx.skip('not here: network namespaces (a container without the right to make them)');
    }
    for (const cable of CABLES) {
      const [here, there] = [`eth${cable}`, `eth${cable}`];
      ip(
        '-n',
        a.space,
        'link',
        'add',
        here,
        'type',
        'veth',
        'peer',
        'name',
        there,
        'netns',
        b.space,
      );
      for (const machine of [a, b]) {
        machine.readdress(cable, machine === a ? 1 : 2);
        machine.set(cable, 'up');
      }
    }
    await a.json('init', '--name', 'two', '--node-name', 'a');
    a.start();
    await expect.poll(async () => (await a.run(['nodes'])).code, WAIT).toBe(0);
    const token = path.join(folder, 'token');
    writeFileSync(token, (await a.json<{ token: string }>('invite')).token);
    await b.json('join', a.address(1), '--token-file', token, '--name', 'b');
    b.start();
    const states = async (): Promise<string[]> =>
      (await a.json<{ nodes: { state: string }[] }>('nodes')).nodes.map(({ state }) => state);
    await expect.poll(states, WAIT).toEqual(['up', 'up']);
    await a.json('model', 'import', path.join(REPOSITORY, 'models/keeper.gguf'), '--yes');
    const up = await a.run(['up', 'keeper', '--nodes', 'b,a', '--no-canary', '--threads', '1']);
    expect(up.stderr + up.stdout).toContain('keeper');
    expect(up.code).toBe(0);

    const epoch = async (): Promise<unknown> =>
      (await a.json<{ deployments: { state: string; epoch: number }[] }>('status')).deployments.map(
        (each) => [each.state, each.epoch],
      );
    const first = await epoch();
    const whole = await answer(a);
    expect(whole.tokens).toBeGreaterThan(20);
    // Both cables are measured, and frames go over one of them.
    await expect
      .poll(async () => {
        const { nodes } = await a.json<{ nodes: { name: string; links: LinkDocument[] }[] }>(
          'nodes',
        );
        const links = nodes.find(({ name }) => name === 'b')?.links ?? [];
        return {
          interfaces: links.map((link) => link.interface).toSorted(),
          measured: links.every((link) => link.up && (link.bytes_per_second ?? 0) > 0),
          used: links.filter((link) => link.in_use).length,
        };
      }, WAIT)
      .toEqual({ interfaces: ['eth1', 'eth2'], measured: true, used: 1 });
    for (const cable of CABLES) {
      expect(await answer(a, () => b.set(cable, 'down')), `cable ${cable} was pulled`).toEqual(
        whole,
      );
      expect(await epoch()).toEqual(first);
      expect(await states()).toEqual(['up', 'up']);
      expect(await answer(a)).toEqual(whole);
      b.set(cable, 'up');
      // Heard of over both cables again, before the other one is pulled.
      await expect.poll(() => readsAll(a, b), WAIT).toBe(true);
    }
  });

  /** The coordinator knows every address that the second machine has now. */
  async function readsAll(a: Machine, b: Machine): Promise<boolean> {
    const { nodes } = await a.json<{ nodes: { name: string; addresses: string[] }[] }>('nodes');
    const known = nodes.find(({ name }) => name === 'b')?.addresses ?? [];
    return CABLES.every((cable) => known.some((each) => each.startsWith(`${b.address(cable)}:`)));
  }
});
