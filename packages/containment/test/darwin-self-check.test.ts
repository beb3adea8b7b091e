/** What a Mac says of itself, from recorded output: `sw_vers`, the design notes' lines of sandbox-exec and log. */
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import type { ChildProcess } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { type CommandResult, type Commands, MACOS_COMMANDS } from '../src/darwin/commands.ts';
import { checkMac } from '../src/darwin/launch.ts';
import { LogWatch } from '../src/darwin/log-watch.ts';
import { selfCheck } from '../src/darwin/self-check.ts';
import { sandboxPlatform } from '../src/platform.ts';
import { HEADER, logEvent } from './darwin/stand-ins.ts';

const MACHINE = { platform: 'darwin', arch: 'arm64', node: '/opt/minikeep/node' } as const;
const ALL_REFUSED = { connect: 'EPERM', write: 'EPERM', read: 'EPERM' };
/** Every wait is over at once; how long it would have been is kept. */
class FakeClock {
  readonly waits: number[] = [];
  sleep(ms: number): Promise<void> {
    this.waits.push(ms);
    return new Promise((resolve) => setImmediate(resolve));
  }
}

class FakeLog extends EventEmitter {
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  kill(): boolean {
    return true;
  }
}

interface Mac {
  readonly version?: CommandResult;
  /** What sandbox-exec does with the probe. */
  readonly probe?: CommandResult;
  /** The try at which a trial reaches the log; never by default. */
  readonly seenAtTry?: number;
  /** `log` says no. */
  readonly logEnds?: { readonly code: number; readonly stderr: string };
}

const result = (stdout: string): CommandResult => ({ code: 0, stdout, stderr: '' });

function mac(how: Mac): { commands: Commands; logs: FakeLog[]; trials: () => number } {
  const logs: FakeLog[] = [];
  let trials = 0;
  const commands: Commands = {
    ...MACOS_COMMANDS,
    run: (file, args) => {
      if (file === '/usr/bin/sw_vers') return Promise.resolve(how.version ?? result('15.3.1\n'));
      if (args[2] !== '/bin/cat')
        return Promise.resolve(how.probe ?? result(`${JSON.stringify(ALL_REFUSED)}\n`));
      trials += 1;
      const tag = /with message "(mk-[0-9a-f]+)"/.exec(args[1] ?? '')?.[1] ?? '';
      if (trials === how.seenAtTry)
        logs
          .at(-1)
          ?.stdout.write(
            logEvent('Sandbox: cat(1) deny(1) file-read-data /private/etc/hosts', tag),
          );
      return Promise.resolve({
        code: 1,
        stdout: '',
        stderr: 'cat: /private/etc/hosts: Operation not permitted\n',
      });
    },
    start: () => {
      const log = new FakeLog();
      logs.push(log);
      const { logEnds } = how;
      setImmediate(() => {
        if (logEnds === undefined) return log.stdout.write(HEADER);
        log.stderr.write(logEnds.stderr);
        return setImmediate(() => log.emit('close', logEnds.code, null));
      });
      return log as unknown as ChildProcess;
    },
  };
  return { commands, logs, trials: () => trials };
}

const check = (how: Mac, machine: Parameters<typeof selfCheck>[1] = MACHINE) =>
  selfCheck(mac(how).commands, machine, new FakeClock());

describe('self-check', () => {
  it('is content when each probe is refused and seen', async () => {
    const support = await check({ seenAtTry: 1 });
    expect(support).toMatchObject({ ok: true, missing: [], platform: 'darwin arm64' });
    expect(support.mechanism).not.toContain('blind');
  });

  it.each(['connect', 'write', 'read'] as const)(
    'is not content when %s gets through',
    async (key) => {
      const probe = result(JSON.stringify({ ...ALL_REFUSED, [key]: 'ok' }));
      const { ok, missing } = await check({ probe, seenAtTry: 1 });
      expect(ok).toBe(false);
      expect(missing).toHaveLength(1);
      expect(missing[0]?.what).toContain('did not refuse');
    },
  );

  it('does not take another failure for a refusal', async () => {
    const probe = result(JSON.stringify({ ...ALL_REFUSED, connect: 'ECONNREFUSED' }));
    expect((await check({ probe })).missing[0]?.what).toContain('ECONNREFUSED');
  });

  it.each([
    [
      'sandbox-exec is missing',
      { code: null, stdout: '', stderr: 'spawn /usr/bin/sandbox-exec ENOENT' },
      /missing/,
    ],
    [
      'it runs in another sandbox',
      { code: 71, stdout: '', stderr: 'sandbox-exec: sandbox_apply: Operation not permitted\n' },
      /71/,
    ],
    ['Node does not start inside', { code: null, stdout: '', stderr: '' }, /did not run/],
    ['the probe says nonsense', { code: 0, stdout: '?', stderr: '' }, /nothing that can be read/],
  ])('says so when %s', async (_, probe, what) => {
    const support = await check({ probe });
    expect(support.ok).toBe(false);
    expect(support.missing[0]?.what).toMatch(what);
    expect(support.missing[0]?.next).not.toBe('');
  });

  it.each([
    ['macOS 13', { version: result('13.6.9\n') }],
    ['no version', { version: { code: null, stdout: '', stderr: '' } }],
  ])('refuses %s', async (_, how) => {
    expect((await check({ ...how, seenAtTry: 1 })).missing[0]?.what).toContain('14 or newer');
  });

  it('refuses Intel', async () => {
    const support = await check({ seenAtTry: 1 }, { ...MACHINE, arch: 'x64' });
    expect(support.missing[0]?.what).toContain('Apple Silicon');
    expect(() => checkMac('arm64', 0)).toThrow(
      expect.objectContaining({ code: 'sandbox.no_unprivileged_user' }),
    );
    expect(() => checkMac('arm64', 501)).not.toThrow();
    expect(() => checkMac('x64', 501)).toThrow(
      expect.objectContaining({ code: 'sandbox.unsupported_platform' }),
    );
  });

  it('enforces but is blind where the log may not be read', async () => {
    const logEnds = { code: 77, stderr: "log: Must be admin to run 'stream' command\n" };
    const support = await check({ logEnds });
    expect(support.ok).toBe(true);
    expect(support.mechanism).toMatch(/blind.*code 77.*Must be admin/);
  });
});

describe('log watch', () => {
  const watchOf = (how: Mac) => {
    const clock = new FakeClock();
    const blind: string[] = [];
    const world = mac(how);
    const watch = new LogWatch({
      commands: world.commands,
      clock,
      tag: 'mk-0123456789abcdef',
      onRefusal: () => undefined,
      onBlind: (why) => blind.push(why),
    });
    return { watch, clock, blind, ...world };
  };

  it('tries again, paced, and sees at the fifth try', async () => {
    const { watch, clock, blind, trials } = watchOf({ seenAtTry: 5 });
    await watch.start();
    watch.close();
    expect(trials()).toBe(5);
    expect(clock.waits.filter((ms) => ms < 2_000)).toEqual([300, 600, 900, 1200]);
    expect(blind).toEqual([]);
  });

  it('is blind after five tries that nobody saw, and stays so', async () => {
    const { watch, blind, trials } = watchOf({});
    await watch.start();
    expect(trials()).toBe(5);
    expect(watch.blind).toContain('was not in the log');
    expect(blind).toHaveLength(1);
    watch.close();
  });

  it('is blind when the log ends, and listens again all the same', async () => {
    const { watch, logs, blind } = watchOf({ seenAtTry: 1 });
    await watch.start();
    expect(watch.blind).toBe('');
    logs[0]?.emit('close', null, 'SIGKILL');
    expect(blind).toEqual(['log stream ended (SIGKILL)']);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(logs).toHaveLength(2);
    watch.close();
  });
});

describe('platform', () => {
  it.runIf(process.platform === 'linux')(
    'a Mac gets its own sandbox, other systems a clear error',
    async () => {
      // Here, on Linux, the warden of macOS says what it lacks.
      await expect(sandboxPlatform('win32').support()).rejects.toMatchObject({
        code: 'sandbox.unsupported_platform',
      });
      const support = await sandboxPlatform('darwin').support();
      expect(support.ok).toBe(false);
      expect(support.missing[0]?.what).toContain('Apple Silicon');
    },
  );
});
