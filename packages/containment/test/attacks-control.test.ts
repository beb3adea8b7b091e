// WARDEN.md's attacks on the monitor itself and on other processes: signals, limits, prctl, terminal (rows 1 to 9, 16, 17).
import { existsSync, readFileSync } from 'node:fs';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Attacked, hostileFolder, inet } from './hostile/attacked.ts';

const SIGKILL = 9;
const EPERM = 1;
let place: ReturnType<typeof hostileFolder>;
let engine: Attacked;

beforeAll(async () => {
  if (process.platform !== 'linux') return;
  place = hostileFolder();
  engine = await (await Attacked.start(place.folder)).sealed();
});
afterAll(async () => {
  await engine?.end();
  place?.cleanUp();
});
beforeEach(async (ctx) => {
  onlyOn(ctx, 'linux');
  await engine.forget();
});

/** The engine's parent: the warden. */
function wardenPid(): number {
  return Number(
    /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${engine.sandbox.pid}/status`, 'utf8'))?.[1],
  );
}
const status = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ??
  '';

describe('1: the terminal', () => {
  it('has no terminal, its own session, and TIOCSTI is refused', async () => {
    const stat = readFileSync(`/proc/${engine.sandbox.pid}/stat`, 'latin1')
      .replace(/^.*\) /, '')
      .split(' ');
    expect(Number(stat[3])).toBe(engine.sandbox.pid); // session
    expect(Number(stat[4])).toBe(0); // tty
    expect(await engine.call('ioctl', 1, 0x5412, { s: 'x' })).toMatchObject({
      result: -1,
      errno: EPERM,
    });
    expect(await engine.recorded('ioctl')).toMatchObject([
      { kind: 'ipc', target: 'descriptor 1 request 0x5412' },
    ]);
  });
});

describe('2 to 4: signals', () => {
  it.each(['kill', 'tkill'])('%s to the warden is an attempt on the monitor', async (call) => {
    const warden = wardenPid();
    expect(await engine.call(call, warden, SIGKILL)).toMatchObject({ errno: EPERM });
    expect(await engine.recorded(call)).toMatchObject([
      { kind: 'monitor', target: `process ${warden} signal 9` },
    ]);
    expect(existsSync(`/proc/${warden}`)).toBe(true);
  });

  it('tgkill to the warden, and to itself with anything but SIGABRT, is refused', async () => {
    const warden = wardenPid();
    expect(await engine.call('tgkill', warden, warden, SIGKILL)).toMatchObject({ errno: EPERM });
    expect(await engine.call('tgkill', 'self', 'self', 10)).toMatchObject({ errno: EPERM });
    expect(await engine.recorded('tgkill', 2)).toMatchObject([
      { kind: 'monitor' },
      { kind: 'signal' },
    ]);
  });

  it('rt_sigqueueinfo, pidfd_send_signal and a process group are refused', async () => {
    await engine.call('rt_sigqueueinfo', wardenPid(), SIGKILL, { zeros: 128 });
    await engine.call('pidfd_open', wardenPid(), 0);
    await engine.call('kill', -1, SIGKILL);
    expect(await engine.recorded('rt_sigqueueinfo')).toMatchObject([{ kind: 'monitor' }]);
    expect(await engine.recorded('pidfd_open')).toMatchObject([{ kind: 'monitor' }]);
    expect(await engine.recorded('kill')).toMatchObject([{ kind: 'signal' }]);
  });

  it('F_SETOWN, F_SETSIG and O_ASYNC on an own pipe are refused', async () => {
    expect(await engine.call('fcntl', 0, 8, wardenPid())).toMatchObject({ errno: EPERM });
    expect(await engine.call('fcntl', 0, 10, SIGKILL)).toMatchObject({ errno: EPERM });
    expect(await engine.call('fcntl', 0, 4, 0x2000)).toMatchObject({ errno: EPERM });
    expect(await engine.recorded('fcntl', 3)).toMatchObject([
      { kind: 'monitor' },
      { kind: 'signal' },
      { kind: 'signal' },
    ]);
  });

  it('SIGUSR1 opens no debugger in the warden or the engine', async () => {
    const listening = (): string[] =>
      ['/proc/net/tcp', '/proc/net/tcp6']
        .filter((file) => existsSync(file))
        .flatMap((file) => readFileSync(file, 'latin1').split('\n'))
        .filter((row) => / [0-9A-F]+:240D .* 0A /.test(row)); // port 9229
    const before = listening();
    process.kill(wardenPid(), 'SIGUSR1');
    process.kill(engine.sandbox.pid, 'SIGUSR1');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(listening()).toEqual(before);
    expect(await engine.call('getpid')).toMatchObject({ result: engine.sandbox.pid });
  });
});

describe('which processes there are', () => {
  it('is not told by a lock that names a thread of another process', async () => {
    // FUTEX_LOCK_PI on a word that holds a thread's number: EPERM where there is one, ESRCH where there is none.
    const word = Buffer.alloc(4);
    for (const tid of [wardenPid(), 4_194_303]) {
      word.writeUInt32LE(tid);
      expect(await engine.call('futex', { hex: word.toString('hex') }, 0x86, 0, 0)).toMatchObject({
        errno: EPERM,
      });
    }
    expect(await engine.recorded('futex', 2)).toHaveLength(2);
  });

  it('is not told by their capabilities', async () => {
    const header = Buffer.alloc(8);
    header.writeUInt32LE(0x2008_0522);
    header.writeUInt32LE(wardenPid(), 4);
    const asked = { hex: header.toString('hex') };
    expect(await engine.call('capget', asked, { zeros: 24 })).toMatchObject({ errno: EPERM });
    expect(await engine.recorded('capget')).toHaveLength(1);
  });
});

describe('5 and 6: limits and scheduling of other processes', () => {
  it('prlimit64 on the warden is refused', async () => {
    const three = { hex: '03000000000000000300000000000000' };
    expect(await engine.call('prlimit64', wardenPid(), 7, three, 0)).toMatchObject({
      errno: EPERM,
    });
    expect(await engine.recorded('prlimit64')).toMatchObject([{ kind: 'monitor' }]);
    expect(readFileSync(`/proc/${wardenPid()}/limits`, 'utf8')).not.toMatch(/Max open files\s+3 /);
  });

  it('a new limit is refused before the seal, too', async () => {
    const early = await Attacked.start(place.folder);
    try {
      const zero = { zeros: 16 };
      expect(await early.call('prlimit64', 0, 7, zero, 0)).toMatchObject({ errno: EPERM });
      expect(await early.call('prlimit64', early.sandbox.pid, 7, 0, zero)).toMatchObject({
        result: 0,
      });
      expect(await early.recorded('prlimit64')).toMatchObject([{ kind: 'limit' }]);
    } finally {
      await early.end();
    }
  });

  it.each(['sched_setaffinity', 'sched_setscheduler', 'sched_setattr'])(
    '%s on the warden is refused',
    async (call) => {
      const before = status(wardenPid(), 'Cpus_allowed');
      expect(await engine.call(call, wardenPid(), 8, { hex: '0100000000000000' })).toMatchObject({
        errno: EPERM,
      });
      expect(await engine.recorded(call)).toMatchObject([{ kind: 'monitor' }]);
      expect(status(wardenPid(), 'Cpus_allowed')).toBe(before);
    },
  );

  it('setpriority and PR_SCHED_CORE are refused', async () => {
    await engine.call('setpriority', 0, wardenPid(), 19);
    await engine.call('prctl', 62, 1, wardenPid(), 0, 0);
    expect(await engine.recorded('setpriority')).toMatchObject([{ kind: 'monitor' }]);
    expect(await engine.recorded('prctl')).toHaveLength(1);
  });
});

describe('7 and 8: arguments meant to break the warden', () => {
  const pointers = [
    0,
    1,
    { big: '140737488351232' },
    { big: '18446744073709551615' },
    { big: '9223372036854775807' },
  ];

  it('bad pointers and lengths: each refused, the warden lives', async () => {
    for (const call of [
      'connect',
      'bind',
      'sendto',
      'sendmsg',
      'sendmmsg',
      'openat',
      'statx',
      'readlinkat',
    ])
      for (const pointer of pointers) {
        const { result } = await engine.call(call, 0, pointer, pointer, pointer, pointer, pointer);
        expect([call, result]).toEqual([call, -1]);
      }
    expect(existsSync(`/proc/${wardenPid()}`)).toBe(true);
    expect(await engine.call('getpid')).toMatchObject({ result: engine.sandbox.pid });
  });

  it('an address of 2 GB costs neither time nor memory', async () => {
    const rss = (): number => Number.parseInt(status(wardenPid(), 'VmRSS'), 10);
    const before = rss();
    const started = performance.now();
    for (let i = 0; i < 20; i++)
      await engine.call('connect', 3, { hex: inet('192.0.2.1', 443) }, 0x7fff_ffff);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(rss() - before).toBeLessThan(32 * 1024); // kB
    expect((await engine.recorded('connect', 20))[0]?.target).toBe('inet 192.0.2.1:443');
  });

  it('a path without an end, and one across the end of a mapping, are read as far as they go', async () => {
    const page = await engine.call('mmap', 0, 8192, 3, 0x22, -1, 0);
    expect(page.result).toBeGreaterThan(0);
    await engine.call('munmap', page.result + 4096, 4096);
    await engine.call('openat', -100, page.result + 4000, 0);
    await engine.call('openat', -100, { hex: '61'.repeat(6000) }, 0);
    const seen = await engine.recorded('openat', 2);
    expect(seen[1]?.target).toBe('unreadable path');
  });
});

describe('16 and 17: the engine changes its own monitoring', () => {
  it('seccomp and prctl(PR_SET_SECCOMP) are refused, in every phase', async () => {
    for (const target of [engine, await Attacked.start(place.folder)]) {
      expect(await target.call('seccomp', 1, 0, { zeros: 16 })).toMatchObject({ errno: EPERM });
      expect(await target.call('prctl', 22, 2, { zeros: 16 }, 0, 0)).toMatchObject({
        errno: EPERM,
      });
      expect(await target.recorded('seccomp')).toMatchObject([{ kind: 'monitor' }]);
      expect(await target.recorded('prctl')).toMatchObject([{ kind: 'monitor' }]);
      if (target !== engine) await target.end();
    }
  });

  it('the death signal can not be undone', async () => {
    expect(await engine.call('prctl', 1, 0, 0, 0, 0)).toMatchObject({ errno: EPERM });
    expect(await engine.recorded('prctl')).toMatchObject([{ kind: 'monitor' }]);
  });

  it('undumpable, the engine is still read by the warden', async () => {
    const early = await Attacked.start(place.folder);
    try {
      expect(await early.call('prctl', 4, 0, 0, 0, 0)).toMatchObject({ result: 0 });
      await early.sealed();
      await early.call('openat', -100, { s: '/etc/shadow' }, 0);
      expect(await early.recorded('openat')).toMatchObject([
        { kind: 'read', target: '/etc/shadow' },
      ]);
    } finally {
      await early.end();
    }
  });
});
