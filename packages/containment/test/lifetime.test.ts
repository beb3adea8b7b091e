// WARDEN.md row 9: an engine lives no longer than its warden, and a warden no longer than its agent.
import { existsSync, readFileSync } from 'node:fs';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { sandboxPlatform } from '../src/index.ts';
import { X64 } from '../src/linux/arch.ts';
import { Attacked, hostileFolder } from './hostile/attacked.ts';
import { firstLine, install, type Installed, startDriver } from './hostile/installed.ts';

const LONG = process.env['MINIKEEP_LONG'] === '1';
const ROUNDS = LONG ? 1000 : 20;
const DEAD_MS_MAX = 100;
const ENOSYS = 38;
let place: ReturnType<typeof hostileFolder>;
let installed: Installed;

beforeAll(async () => {
  if (process.platform !== 'linux') return;
  place = hostileFolder();
  installed = await install();
});
afterAll(() => {
  place?.cleanUp();
  installed?.cleanUp();
});
beforeEach((ctx) => onlyOn(ctx, 'linux'));

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const statusOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
};
const parentOf = (pid: number): number => Number(/^PPid:\s+(\d+)/m.exec(statusOf(pid))?.[1]);
/** Gone, or dead and not yet collected by its new parent. */
const isDead = (pid: number): boolean => {
  const text = statusOf(pid);
  return text === '' || /^State:\s+[ZX]/m.test(text);
};
/** Milliseconds that a process was ready to run and waited for a processor. */
function waited(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1] ?? 0) / 1e6;
  } catch {
    return 0;
  }
}

interface Alive {
  /** Milliseconds until the last look at the living process. */
  readonly seen: number;
  /** How much of it the processes waited for a processor. */
  readonly waited: number;
}

/**
 * How long the process lives after `since` (performance.now()). On a machine with more to do than it can, waiting for
 * a processor is nobody's fault, so that time of `pid` and `others` is told apart. A busy loop, because the answer is
 * a few milliseconds; the time is taken before each look, because this process may have to wait, too.
 */
function aliveFor(pid: number, since: number, ...others: number[]): Alive {
  const all = [pid, ...others];
  const before = all.map(waited);
  let latest = before;
  let seen = 0;
  for (;;) {
    const now = performance.now() - since;
    if (isDead(pid)) break;
    seen = now;
    latest = all.map((p, i) => Math.max(latest[i] ?? 0, waited(p)));
    if (seen > 5_000) return { seen: Infinity, waited: 0 };
  }
  return { seen, waited: latest.reduce((sum, w, i) => sum + w - (before[i] ?? 0), 0) };
}

const spread = (ms: readonly number[]): string => {
  const sorted = ms.toSorted((a, b) => a - b);
  const at = (part: number): string =>
    (sorted[Math.floor(part * (sorted.length - 1))] ?? Number.NaN).toFixed(2);
  return `${ms.length} rounds, median ${at(0.5)} ms, 99 % ${at(0.99)} ms, most ${at(1)} ms`;
};

describe('the warden is killed', () => {
  // getppid only goes on when the warden says so: an engine without a warden must not hear an answer any more.
  const asks = { nr: X64.numbers['getppid'], args: [] };
  const busy: [string, string | undefined, object][] = [
    ['waits for input', undefined, {}],
    ['computes', 'js', { code: 'for (;;) Math.sqrt(2)' }],
    ['is being refused', 'flood', { nr: 41, args: [2, 1, 0], times: 1e9 }],
    ['is being answered', 'testify', asks],
  ];

  it(`the engine is dead within ${DEAD_MS_MAX} ms, and makes no call after, ${ROUNDS} times`, async () => {
    const dead: number[] = [];
    const silent: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const [what, verb, details] = busy[round % busy.length] ?? ['', undefined, {}];
      const engine = await Attacked.start(place.folder, { limits: { violations_max: 1e9 } });
      const { pid } = engine.sandbox;
      const warden = parentOf(pid);
      // Its first answer says that it has begun.
      if (verb === 'testify') await engine.order(verb, details);
      else if (verb !== undefined) engine.send(verb, details);
      await sleep(round % 7);
      const killed = process.hrtime.bigint();
      const started = performance.now();
      process.kill(warden, 'SIGKILL');
      const alive = aliveFor(pid, started, warden);
      const told = `an engine that ${what}, ${JSON.stringify(alive)}`;
      expect(alive.seen - alive.waited, told).toBeLessThan(DEAD_MS_MAX);
      dead.push(alive.seen);
      expect(await engine.sandbox.exited).toMatchObject({ signal: 'SIGKILL' });
      if (verb !== 'testify') continue;
      const said = await engine.lastWords();
      const orphaned = said.findIndex((line) => Number(line['result']) < 0);
      if (orphaned >= 0)
        // No warden, no answer: what it still asked was refused by the kernel.
        for (const line of said.slice(orphaned))
          expect(line).toMatchObject({ result: -1, errno: ENOSYS });
      // By the engine's own clock, which is ours.
      const last = Number(BigInt(String(said.at(-1)?.['at'] ?? killed)) - killed) / 1e6;
      expect(last - alive.waited, 'milliseconds from the kill to the last call').toBeLessThan(
        DEAD_MS_MAX,
      );
      silent.push(last);
    }
    expect(silent.length).toBeGreaterThanOrEqual(ROUNDS / busy.length - 1);
    if (LONG) process.stdout.write(`dead: ${spread(dead)}; last call: ${spread(silent)}\n`);
  });

  it('who waits is told', async () => {
    const engine = await Attacked.start(place.folder);
    process.kill(parentOf(engine.sandbox.pid), 'SIGKILL');
    expect((await engine.sandbox.exited).reason).toContain('the warden ended (SIGKILL)');
    await expect(engine.sandbox.seal()).rejects.toMatchObject({ code: 'sandbox.ended' });
  });
});

describe('the warden is stopped', () => {
  it('kill still ends both', { timeout: 30_000 }, async () => {
    const engine = await Attacked.start(place.folder);
    const { pid } = engine.sandbox;
    const warden = parentOf(pid);
    process.kill(warden, 'SIGSTOP');
    const exit = await engine.sandbox.kill('it hangs');
    expect(exit).toMatchObject({ signal: 'SIGKILL', reason: 'it hangs' });
    expect(aliveFor(pid, performance.now()).seen).toBeLessThan(DEAD_MS_MAX);
  });
});

describe('the agent', () => {
  it('is killed: warden and engine go with it', async () => {
    const driver = startDriver(installed, 'hold');
    const { engine } = (await firstLine(driver)) as { engine: number };
    const warden = parentOf(engine);
    const started = performance.now();
    driver.kill('SIGKILL');
    expect(aliveFor(warden, started).seen).toBeLessThan(1_000);
    expect(aliveFor(engine, started).seen).toBeLessThan(1_000);
  });

  it('gets Ctrl-C alone: signals of its terminal do not reach warden and engine', async () => {
    const engine = await Attacked.start(place.folder);
    const warden = parentOf(engine.sandbox.pid);
    const session = (pid: number): string =>
      readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /, '')
        .split(' ')[3] ?? '';
    expect(session(warden)).toBe(String(warden));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(warden, signal);
    await sleep(100);
    expect(existsSync(`/proc/${warden}`)).toBe(true);
    await engine.end();
  });

  it('ends an engine: nothing is left', async () => {
    const engine = await Attacked.start(place.folder);
    const { pid } = engine.sandbox;
    const warden = parentOf(pid);
    expect(await engine.end()).toMatchObject({ signal: 'SIGKILL', reason: 'the test is over' });
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    for (let i = 0; i < 100 && existsSync(`/proc/${warden}`); i++) await sleep(10);
    expect(existsSync(`/proc/${warden}`)).toBe(false);
  });
});

describe('an engine that does not start', () => {
  it('an entry that is missing, or fails at once, is an error or an exit, and leaves nothing', async () => {
    const missing = sandboxPlatform().launch({
      purpose: 'stage',
      entry: `${place.folder}/missing.mjs`,
      args: [],
      files: [],
    });
    const ended = await missing.then((s) => s.exited);
    expect(ended.code).not.toBe(0);
    expect(ended.stderr_tail).toContain('missing.mjs');
  });

  it('a file that is missing is named', async () => {
    await expect(
      Attacked.start(place.folder, { files: [`${place.folder}/no-such-model.gguf`] }),
    ).rejects.toMatchObject({ code: 'sandbox.file_missing' });
  });
});

describe('support', () => {
  it('finds out by trying', async () => {
    expect(await sandboxPlatform().support()).toMatchObject({ ok: true, missing: [] });
  });

  it('refuses a platform without a sandbox, and arm64, with the choices', async () => {
    await expect(sandboxPlatform('win32').support()).rejects.toMatchObject({
      code: 'sandbox.unsupported_platform',
    });
    const { hostArch } = await import('../src/linux/arch.ts');
    expect(() => hostArch('arm64')).toThrowError(
      expect.objectContaining({ code: 'sandbox.unsupported_arch' }),
    );
  });
});
