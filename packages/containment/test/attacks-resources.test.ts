// WARDEN.md's attacks on the machine's resources and by crashing (rows 12, 13, 18 to 20, 22, 24, 27).
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { needRoot, onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Attacked, hostileFolder, haveOwnUsers } from './hostile/attacked.ts';

const EMFILE = 24;
let place: ReturnType<typeof hostileFolder>;

beforeAll(() => {
  if (process.platform === 'linux') place = hostileFolder();
});
afterAll(() => place?.cleanUp());
beforeEach((ctx) => onlyOn(ctx, 'linux'));

const procStatus = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8');
const field = (pid: number, name: string): string =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(procStatus(pid))?.[1] ?? '';
const parentOf = (pid: number): number => Number(field(pid, 'PPid'));

describe('12 and 13: crashing', () => {
  /** What the kernel has said, or undefined where this process can't read it. */
  const kernelLog = (): string | undefined => {
    const { status, stdout } = spawnSync('dmesg', [], { encoding: 'utf8', maxBuffer: 1 << 26 });
    return status === 0 ? stdout : undefined;
  };
  const crashLine = (pid: number): RegExp => new RegExp(`\\[${pid}\\]: segfault`);

  async function crashGuarded(): Promise<number> {
    const engine = await Attacked.start(place.folder);
    expect(await engine.order('guard')).toEqual({ results: [0, 0, 0, 0, 0] });
    await engine.sealed();
    await expect(engine.order('crash')).rejects.toThrow(/ended/);
    // By the handler: a process that a signal ended would say so. Only those does the kernel write down.
    expect(await engine.sandbox.exited).toMatchObject({ code: 11, signal: null });
    expect(await engine.recorded('SIGSEGV')).toMatchObject([
      { kind: 'crash', refused_by: 'kernel' },
    ]);
    return engine.sandbox.pid;
  }

  it('leaves by the handler: a record, and no core', async () => {
    const cores = (): string[] => readdirSync('/').filter((name) => name.startsWith('core'));
    const before = cores();
    await crashGuarded();
    expect(cores()).toEqual(before);
  });

  it('leaves nothing in the kernel log, where an unguarded crash does leave its line', async (ctx) => {
    if (kernelLog() === undefined) ctx.skip('not here: a kernel log that can be read');
    // The control: without a handler (Node has one of its own) the same crash is written down.
    const control = await Attacked.start(place.folder);
    expect((await control.call('rt_sigaction', 11, { zeros: 32 }, 0, 8)).result).toBe(0);
    await expect(control.order('crash')).rejects.toThrow(/ended/);
    await control.sandbox.exited;
    if (!crashLine(control.sandbox.pid).test(kernelLog() ?? ''))
      ctx.skip('not here: a kernel that writes crashes to its log');
    expect(kernelLog()).not.toMatch(crashLine(await crashGuarded()));
  });

  it('the handlers can not be taken away once a model is open', async () => {
    const engine = await Attacked.start(place.folder);
    await engine.order('guard');
    await engine.touchModel();
    const seen = await engine.provoke(async () => {
      for (const signal of [4, 5, 7, 8, 11])
        expect((await engine.call('rt_sigaction', signal, { zeros: 32 }, 0, 8)).result).toBe(-1);
    });
    expect(seen.map((v) => v.kind)).toEqual(['signal', 'signal', 'signal', 'signal', 'signal']);
    await engine.end();
  });

  it('without a handler there is still no core file, and the crash is a record', async () => {
    const engine = await Attacked.start(place.folder);
    const limits = readFileSync(`/proc/${engine.sandbox.pid}/limits`, 'utf8');
    expect(limits).toMatch(/Max core file size\s+1\s+1\s/);
    await expect(engine.order('crash')).rejects.toThrow(/ended/);
    expect(await engine.sandbox.exited).toMatchObject({ signal: 'SIGSEGV' });
    expect(await engine.recorded('SIGSEGV')).toMatchObject([{ kind: 'crash' }]);
  });

  it('a name for the kernel log can not be set once a model is open', async () => {
    const engine = await Attacked.start(place.folder);
    const name = (): string => readFileSync(`/proc/${engine.sandbox.pid}/comm`, 'utf8');
    const PR_SET_NAME = 15;
    await engine.touchModel();
    const before = name();
    // Every new thread names itself, so it is told that all is well.
    expect((await engine.call('prctl', PR_SET_NAME, { s: 'a secret' }, 0, 0, 0)).result).toBe(0);
    expect(name()).toBe(before);
    await engine.end();
  });

  it('an abort is a crash', async () => {
    const engine = await (await Attacked.start(place.folder)).sealed();
    const code = `const koffi = require('./koffi.node'); koffi.load('libc.so.6').func('void abort()')();`;
    await expect(engine.order('js', { code })).rejects.toThrow(/ended/);
    expect(await engine.sandbox.exited).toMatchObject({ signal: 'SIGABRT' });
    expect(await engine.recorded('SIGABRT')).toMatchObject([{ kind: 'crash' }]);
  });
});

describe('18: threads', () => {
  it('no more than the limit, whatever the engine asks for', async () => {
    const engine = await (await Attacked.start(place.folder)).sealed();
    const live = (): number => readdirSync(`/proc/${engine.sandbox.pid}/task`).length;
    const seen = await engine.provoke(async () => {
      const { started } = (await engine.order('threads', { count: 200 })) as { started: number };
      expect(started).toBeLessThan(64);
      expect(started).toBeGreaterThan(40);
    });
    expect(live()).toBeLessThanOrEqual(64);
    expect(seen).toMatchObject([{ kind: 'limit', operation: 'clone' }]);
    await engine.end();
  });

  it('nor when threads start threads in native code, all at once', async () => {
    for (let round = 0; round < (process.env['MINIKEEP_LONG'] === '1' ? 50 : 3); round++) {
      const engine = await Attacked.start(place.folder, { limits: { violations_max: 1e9 } });
      const page = (await engine.call('mmap', 0, 4096, 7, 0x22, -1, 0)).result;
      expect(await engine.order('plantBomb', { page })).toEqual({ planted: true });
      await engine.sealed();
      // It answers no more: its threads ask without a pause.
      engine.send('lightBomb', { page, threads: 30 });
      const tasks = `/proc/${engine.sandbox.pid}/task`;
      let most = 0;
      let unchanged = 0;
      for (let looks = 0; looks < 1_000 && unchanged < 25; looks++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const live = readdirSync(tasks).length;
        unchanged = live > 40 && live === most ? unchanged + 1 : 0;
        most = Math.max(most, live);
      }
      expect(most).toBeGreaterThan(50);
      expect(most).toBeLessThanOrEqual(64);
      expect((await engine.recorded('clone'))[0]).toMatchObject({ kind: 'limit' });
      await engine.end();
    }
  });

  it('a clone that is no thread is refused, flag by flag', async () => {
    const engine = await Attacked.start(place.folder);
    for (let bit = 0; bit < 32; bit++) {
      const flags = (0x3d0f00 ^ (2 ** bit)) >>> 0;
      const { result } = await engine.call('clone', flags, 0, 0, 0, 0);
      expect([bit, result]).toEqual([bit, -1]);
    }
    await engine.end();
  });
});

describe('19 and 22: descriptors and kernel memory', () => {
  it('256 descriptors at most, and a full table is an answer, not a hang', async () => {
    const engine = await Attacked.start(place.folder);
    await engine.touchModel();
    let last = 0;
    for (let i = 0; i < 300 && last >= 0; i++)
      last = (await engine.call('pipe2', { zeros: 8 }, 0)).result;
    expect(last).toBe(-1);
    expect(readdirSync(`/proc/${engine.sandbox.pid}/fd`).length).toBeLessThanOrEqual(256);
    // Perhaps one number is left: then the second opening finds the table full.
    const opened = [1, 2].map(() => engine.call('openat', -100, { s: engine.data }, 0));
    expect((await Promise.all(opened)).at(-1)).toMatchObject({ result: -1, errno: EMFILE });
    await engine.end();
  });

  it('a pipe can not be made larger', async () => {
    const engine = await Attacked.start(place.folder);
    expect((await engine.call('fcntl', 1, 1031, 1 << 20)).result).toBe(-1);
    await engine.end();
  });

  it('the limits are in force, soft and hard', async () => {
    const engine = await Attacked.start(place.folder);
    const limits = readFileSync(`/proc/${engine.sandbox.pid}/limits`, 'utf8');
    expect(limits).toMatch(/Max file size\s+0\s+0\s/);
    expect(limits).toMatch(/Max open files\s+256\s+256\s/);
    expect(limits).toMatch(/Max pending signals\s+64\s+64\s/);
    expect(limits).toMatch(/Max msgqueue size\s+0\s+0\s/);
    await engine.end();
  });
});

describe('20: a flood of attempts', () => {
  it('the engine is stopped after 100, with few lines and a true count', async () => {
    const engine = await Attacked.start(place.folder, { limits: {} });
    await expect(
      engine.order('flood', { nr: 41, args: [2, 1, 0], times: 100_000 }),
    ).rejects.toThrow(/ended/);
    const exit = await engine.sandbox.exited;
    expect(exit).toMatchObject({ signal: 'SIGKILL', violations: 100 });
    expect(exit.reason).toContain('100 refused attempts');
    expect(engine.violations.length).toBeLessThanOrEqual(8);
    expect(engine.violations.reduce((sum, v) => sum + v.count, 0)).toBe(100);
    expect(engine.violations.filter((v) => v.stopped)).toHaveLength(1);
  });

  it('a long one grows neither the records nor the warden', async () => {
    const times = process.env['MINIKEEP_LONG'] === '1' ? 1_000_000 : 20_000;
    const engine = await Attacked.start(place.folder, { limits: { violations_max: 1e9 } });
    const warden = parentOf(engine.sandbox.pid);
    const rss = (): number => Number.parseInt(field(warden, 'VmRSS'), 10);
    await engine.order('flood', { nr: 41, args: [2, 1, 0], times: 5_000 });
    const before = rss();
    // 90 s for a million on a quiet machine.
    const flood = { nr: 41, args: [2, 1, 0], times };
    const patience = Math.max(40_000, times);
    expect(await engine.order('flood', flood, patience)).toEqual({ refused: times });
    expect(rss() - before).toBeLessThan(48 * 1024); // kB
    expect(rss()).toBeLessThan(150 * 1024);
    expect((await engine.end()).violations).toBe(times + 5_000);
    const bytes = engine.violations.reduce((sum, v) => sum + JSON.stringify(v).length, 0);
    expect(bytes).toBeLessThan(17 * 1024); // the last record may begin below the limit
    expect(engine.violations.reduce((sum, v) => sum + v.count, 0)).toBe(times + 5_000);
  });
});

describe('24 and 27: who the engine is', () => {
  it('no root, no groups, no capabilities, no new privileges, first to go when memory is short', async () => {
    const engine = await Attacked.start(place.folder);
    const { pid } = engine.sandbox;
    expect(field(pid, 'Uid').split(/\s+/)).not.toContain('0');
    expect(field(pid, 'Gid').split(/\s+/)).not.toContain('0');
    if (haveOwnUsers()) expect(field(pid, 'Groups').trim()).toBe('');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
      expect([set, field(pid, set)]).toEqual([set, '0'.repeat(16)]);
    if (haveOwnUsers()) expect(field(pid, 'CapBnd')).toBe('0'.repeat(16));
    expect(field(pid, 'NoNewPrivs')).toBe('1');
    expect(field(pid, 'Seccomp')).toBe('2');
    expect(field(pid, 'Umask')).toBe('0077');
    expect(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim()).toBe('1000');
    await engine.end();
  });

  it('two engines are two users when root starts them', async (ctx) => {
    needRoot(ctx);
    if (!haveOwnUsers()) ctx.skip('not here: started by an ordinary user, who has no other');
    const engines = [await Attacked.start(place.folder), await Attacked.start(place.folder)];
    const [first, second] = engines.map((e) => field(e.sandbox.pid, 'Uid').split(/\s+/)[0]);
    expect(first).not.toBe(second);
    for (const engine of engines) await engine.end();
  });

  it('a bad environment is refused', async () => {
    for (const name of ['LD_PRELOAD', 'NODE_OPTIONS', 'PATH', 'MINIKEEP_=x'])
      await expect(Attacked.start(place.folder, { env: { [name]: 'x' } })).rejects.toMatchObject({
        code: 'sandbox.bad_environment',
      });
  });
});

describe("the warden's copies of the engine's mappings", () => {
  it('are few, and small in its memory, however many mappings there are', async () => {
    const engine = await (await Attacked.start(place.folder)).sealed();
    const warden = parentOf(engine.sandbox.pid);
    const area = await engine.call('mmap', 0, 20_000 * 4096, 3, 0x22, -1, 0);
    // Every other page read-only: as many mappings as there are pages.
    await engine.order('js', {
      code: `const koffi = require('./koffi.node');
        const mprotect = koffi.load('libc.so.6').func('int mprotect(long, long, int)');
        for (let i = 0; i < 20000; i += 2) mprotect(${area.result} + i * 4096, 4096, 1);
        return {};`,
    });
    await engine.order('flood', {
      nr: 257,
      args: [-100, { s: '/proc/self/maps' }, 0, 0],
      times: 100,
    });
    // 64 are the engine's own; glibc has used some.
    const [first] = await engine.recorded('openat', 36);
    expect(first).toMatchObject({ kind: 'read', target: '/proc/self/maps' });
    expect(Number.parseInt(field(warden, 'VmHWM'), 10)).toBeLessThan(150 * 1024); // kB
    await engine.end();
  });
});
