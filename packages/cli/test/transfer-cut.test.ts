/**
 * Two machines with one cable, made of network namespaces. It is pulled while a slice travels: for a moment, and for good
 * until a person puts it back. Root on Linux.
 */
import { needCommand, needRoot, onlyOn, REPOSITORY } from '@minikeep/testkit';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { Machine, ip } from './namespace-machine.ts';

const TIMEOUT_MS = 300_000;
const WAIT = { timeout: 90_000, interval: 300 };
const CABLE = 1;
const MODEL = path.join(REPOSITORY, 'models/keeper.gguf');
/** So that the slice is on its way for some seconds. */
const RATE = '16mbit';
/** Less than the time after which a node counts as gone, and than that for which a connection is looked for. */
const MOMENT_MS = 3_000;
/** Of the model: pulled after so much, and up to so many milliseconds later. */
const CUTS = [
  { part: 0.05, laterMs: 500 },
  { part: 0.5, laterMs: 300 },
] as const;
/** Over the cable in all, of the model. Begun anew after each cut it would be more than 1.8; what was under way comes again. */
const RECEIVED_MAX = 1.5;
const SEED = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 1_000_000);

/** Bytes that came over the cable so far. */
function received(machine: Machine): number {
  const [link] = JSON.parse(ip('-n', machine.space, '-s', '-j', 'link', 'show', `eth${CABLE}`)) as {
    stats64: { rx: { bytes: number } };
  }[];
  return link?.stats64.rx.bytes ?? 0;
}

/** Bytes of slices that are being put together or are there. */
const stored = (machine: Machine): number =>
  readdirSync(machine.home, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(part|gguf)$/.test(name) && !name.includes('pins'))
    .reduce(
      (sum, name) =>
        sum + (statSync(path.join(machine.home, name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );

describe('a cable that is pulled while a slice travels', { timeout: TIMEOUT_MS }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-cut-'));
  const machines: Machine[] = [];
  afterAll(async () => {
    for (const machine of machines) await machine.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  it('costs its time and no more; one that stays away is said, and what came by then counts', async (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    needCommand(ctx, 'ip', 'iproute2');
    needCommand(ctx, 'tc', 'iproute2');
    let a: Machine;
    let b: Machine;
    try {
      machines.push((a = new Machine(folder, 'a', 1)));
      machines.push((b = new Machine(folder, 'b', 2)));
    } catch {
      return ctx.skip('not here: network namespaces (a container without the right to make them)');
    }
    const end = `eth${CABLE}`;
    const veth = ['type', 'veth', 'peer', 'name', end, 'netns', b.space];
    ip('-n', a.space, 'link', 'add', end, ...veth);
    for (const [i, machine] of machines.entries()) {
      machine.readdress(CABLE, i + 1);
      machine.set(CABLE, 'up');
    }
    const shape = ['root', 'tbf', 'rate', RATE, 'burst', '64kb', 'latency', '100ms'];
    try {
      execFileSync('tc', ['-n', a.space, 'qdisc', 'add', 'dev', end, ...shape], {
        stdio: 'ignore',
      });
    } catch {
      return ctx.skip('not here: tbf (a kernel without it)');
    }
    await a.json('init', '--name', 'one', '--node-name', 'a');
    a.start();
    await expect.poll(async () => (await a.run(['nodes'])).code, WAIT).toBe(0);
    const token = path.join(folder, 'token');
    writeFileSync(token, (await a.json<{ token: string }>('invite')).token);
    await b.json('join', a.address(CABLE), '--token-file', token, '--name', 'b');
    b.start();
    const states = async (): Promise<string[]> =>
      (await a.json<{ nodes: { state: string }[] }>('nodes')).nodes.map(({ state }) => state);
    await expect.poll(states, WAIT).toEqual(['up', 'up']);
    await a.json('model', 'import', MODEL, '--yes');
    const { size } = statSync(MODEL);

    console.log(`seed ${SEED}`);
    const up = ['up', 'keeper', '--nodes', 'b', '--no-canary', '--threads', '1'];
    const arrived = async (cut: 0 | 1): Promise<void> => {
      const { part, laterMs } = CUTS[cut];
      await expect.poll(() => stored(b) >= part * size, { ...WAIT, interval: 20 }).toBe(true);
      await pause((SEED * (7 + 6 * cut)) % laterMs);
    };
    const before = received(b);
    const begun = a.run(up);
    await arrived(0);
    b.set(CABLE, 'down');
    await pause(MOMENT_MS);
    b.set(CABLE, 'up');
    await arrived(1);
    b.set(CABLE, 'down');
    const cut = await begun;
    expect(cut.stderr).toMatch(/node b\b/);
    expect(cut.stderr).toContain('next: ');
    expect(cut.code).not.toBe(0);
    b.set(CABLE, 'up');
    // By itself, or by whoever asks again.
    await expect.poll(states, WAIT).toEqual(['up', 'up']);
    const state = async (): Promise<string[]> =>
      (await a.json<{ deployments: { state: string }[] }>('status')).deployments.map(
        (each) => each.state,
      );
    await expect.poll(state, WAIT).toEqual(['ready']);
    expect(stored(b)).toBeGreaterThan(0.9 * size);
    const share = (received(b) - before) / size;
    expect(share, `${share} of the model came`).toBeLessThan(RECEIVED_MAX);
  });
});
