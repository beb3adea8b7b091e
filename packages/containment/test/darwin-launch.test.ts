/**
 * The macOS sandbox's processes, driven on Linux: real warden, real guard, real engine process, real pipes; only
 * macOS's own commands are stood in for (darwin/stand-ins.ts). That Seatbelt refuses is not shown here, and was never
 * seen on a Mac.
 */
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { makePipe } from '../src/linux/libc.ts';
import { hostArch } from '../src/linux/arch.ts';
import type { Sandbox, SandboxSpec, Violation } from '../src/sandbox.ts';
import { platformUnder } from '../src/warden-client.ts';
import { logEvent, standIns, type StandIns } from './darwin/stand-ins.ts';

const ENGINE = fileURLToPath(new URL('darwin/engine.mjs', import.meta.url));
/** The claim: an engine is gone this soon after its warden, milliseconds. */
const ORPHAN_MS_MAX = 100;
const ROUNDS = 4;
const TEST_MS_MAX = 120_000;

let world: StandIns;
const running = new Set<Sandbox>();

async function start(spec: Partial<SandboxSpec> = {}): Promise<Sandbox> {
  world = standIns();
  void world.given.catch(() => undefined);
  const platform = platformUnder({
    platform: 'darwin arm64',
    mechanism: 'Seatbelt',
    program: world.warden,
    check: () => undefined,
    makePipe: () => makePipe(hostArch().numbers),
  });
  const sandbox = await platform.launch({
    purpose: 'stage',
    entry: ENGINE,
    args: [],
    files: [ENGINE],
    env: { GGML_NO_BACKTRACE: '1' },
    ...spec,
  });
  running.add(sandbox);
  return sandbox;
}

async function firstLine(sandbox: Sandbox): Promise<Record<string, unknown>> {
  let text = '';
  for await (const chunk of sandbox.output) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  return JSON.parse(text) as Record<string, unknown>;
}

const tagOf = (profile: string): string => /with message "(mk-[0-9a-f]+)"/.exec(profile)?.[1] ?? '';
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
async function within(ms: number, holds: () => boolean): Promise<number> {
  const began = performance.now();
  while (!holds() && performance.now() - began < ms) await sleep(1);
  return performance.now() - began;
}

afterEach(async () => {
  for (const sandbox of running) await sandbox.kill('the test is over');
  running.clear();
  rmSync(world.folder, { recursive: true, force: true });
});

describe.runIf(process.platform === 'linux')('launching', () => {
  it('gives the engine its profile, limits, pipes and nothing of ours', async () => {
    const sandbox = await start({ args: ['a b'] });
    const { limits, env, argv } = await world.given;
    expect(limits).toEqual(['core 0', 'files 256', 'size 0']);
    expect(argv[0]).toBe('-p');
    expect(argv[1]).toContain(`(allow process-exec* (literal "${process.execPath}"))`);
    expect(argv[1]).toContain('AGXDeviceUserClient');
    expect(argv[1]).toContain(`(literal "${ENGINE}")`);
    expect(argv.slice(2)).toEqual([
      process.execPath,
      '--jitless',
      '--disable-sigusr1',
      '--no-warnings',
      '--v8-pool-size=1',
      ENGINE,
      'a b',
    ]);
    // The stand-in is a shell, which adds these three by itself.
    const names = env.map((e) => e.split('=')[0]).filter((n) => !/^(PWD|SHLVL|_)$/.test(n ?? ''));
    expect(names.toSorted((a, b) => String(a).localeCompare(String(b)))).toEqual([
      'GGML_NO_BACKTRACE',
      'LANG',
      'PATH',
      'TZ',
    ]);
    const said = await firstLine(sandbox);
    expect(said['pid']).toBe(sandbox.pid);
    expect(sandbox.blind?.()).toBe('');
  });

  it('gives a text engine no way to the GPU', async () => {
    await start({ purpose: 'text' });
    const { argv } = await world.given;
    expect(argv[1]).not.toContain('AGXDeviceUserClient');
    expect(argv[1]).not.toContain('MTLCompilerService');
  });

  it('refuses files that are none', async () => {
    await expect(start({ files: [path.dirname(ENGINE)] })).rejects.toMatchObject({
      code: 'sandbox.bad_file',
    });
    await expect(start({ files: ['/nonexistent'] })).rejects.toMatchObject({
      code: 'sandbox.bad_file',
    });
  });
});

describe.runIf(process.platform === 'linux')('what the log says', () => {
  it('is reported with the instance; what libraries ask for at start is not, once sealed it is', async () => {
    const sandbox = await start();
    const seen: Violation[] = [];
    sandbox.onViolation((violation) => seen.push(violation));
    const { argv } = await world.given;
    const tag = tagOf(argv[1] ?? '');
    const known = `Sandbox: node(${sandbox.pid}) deny(1) mach-lookup com.apple.logd`;
    world.log(logEvent(known, tag));
    world.log(logEvent('Sandbox: nc(7936) deny(1) network-outbound remote:*:443', tag));
    await within(10_000, () => seen.length > 0);
    expect(seen).toMatchObject([
      {
        instance: sandbox.instance,
        kind: 'network',
        operation: 'network-outbound',
        target: 'remote:*:443',
        refused_by: 'seatbelt',
        seen_by: ['seatbelt-log'],
      },
    ]);
    await sandbox.seal();
    world.log(logEvent(known, tag));
    await within(10_000, () => seen.length > 1);
    expect(seen[1]).toMatchObject({ kind: 'ipc', target: 'com.apple.logd' });
  });

  it('stops the engine after 100 attempts', async () => {
    const sandbox = await start();
    const { argv } = await world.given;
    const one = logEvent(
      'Sandbox: bash(1) deny(1) file-write-create /private/tmp/w',
      tagOf(argv[1] ?? ''),
    );
    world.log(one.repeat(99));
    await sleep(300);
    expect(alive(sandbox.pid)).toBe(true);
    world.log(one);
    const exit = await sandbox.exited;
    expect(exit).toMatchObject({ signal: 'SIGKILL', violations: 100 });
    expect(exit.reason).toContain('100 refused attempts');
  });

  it('a flood folded by the log counts in full', async () => {
    const sandbox = await start();
    const { argv } = await world.given;
    const folded = '100 duplicate reports for Sandbox: a(1) deny(1) file-write-create /x';
    world.log(logEvent(folded, tagOf(argv[1] ?? '')));
    expect((await sandbox.exited).violations).toBe(100);
  });

  it('makes it blind when messages were dropped, and the engine goes on', async () => {
    const sandbox = await start();
    world.log(
      '=== Messages dropped during live streaming (use `log show` to see what they were)\n',
    );
    await within(10_000, () => sandbox.blind?.() !== '');
    expect(sandbox.blind?.()).toContain('dropped');
    expect(alive(sandbox.pid)).toBe(true);
  });
});

describe.runIf(process.platform === 'linux')('ends', () => {
  it('the engine that leaves by itself', async () => {
    const sandbox = await start({ args: ['leave'] });
    await firstLine(sandbox).catch(() => undefined);
    sandbox.input.write('x');
    expect(await sandbox.exited).toMatchObject({ code: 3, signal: null, reason: '' });
  });

  it('the engine that is killed', async () => {
    const sandbox = await start();
    expect(await sandbox.kill('enough')).toMatchObject({ signal: 'SIGKILL', reason: 'enough' });
    expect(alive(sandbox.pid)).toBe(false);
  });

  it(
    `an engine deaf to everything is gone within ${ORPHAN_MS_MAX} ms of its warden's death`,
    { timeout: TEST_MS_MAX },
    async () => {
      const times: number[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        const sandbox = await start();
        await firstLine(sandbox).catch(() => undefined);
        const warden = await parentOf(sandbox.pid);
        process.kill(warden, 'SIGKILL');
        times.push(await within(10_000, () => !runs(sandbox.pid)));
        expect(runs(sandbox.pid)).toBe(false);
        await sandbox.exited;
        await within(10_000, () => !leftIn(world.folder));
        expect(leftIn(world.folder)).toBe(false);
        running.delete(sandbox);
        rmSync(world.folder, { recursive: true, force: true });
      }
      // On a busy machine one round may wait for a processor; that all did would be the guard's fault.
      expect(Math.min(...times), times.join(', ')).toBeLessThan(ORPHAN_MS_MAX);
    },
  );
});

/** Whether a process still has something to do with a test's folder: `log stream` is one. */
const leftIn = (folder: string): boolean =>
  readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid || !runs(Number(pid))) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder);
    } catch {
      return false;
    }
  });

async function statOf(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return text === '' ? [] : text.slice(text.lastIndexOf(')') + 2).split(' ');
}
async function parentOf(pid: number): Promise<number> {
  return Number((await statOf(pid))[1]);
}
/** A zombie is dead: only init's attention is missing. */
function runs(pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/^[ZX]/.test(text.slice(text.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}
