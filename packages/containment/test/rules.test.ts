// Every row of WARDEN.md's allow-list against the compiled filter and against the phases: what passes, and what does not.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ARM64, syscallNames, X64 } from '../src/linux/arch.ts';
import { ACTION, compile, encode } from '../src/linux/bpf.ts';
import { continueTable, matches, mayContinue } from '../src/linux/match.ts';
import { CONTINUED, FILTER_ALLOW, FILTER_ERRNO, type Phase, PHASES } from '../src/linux/rules.ts';
import { run } from './bpf-machine.ts';

const program = compile(X64, FILTER_ALLOW, FILTER_ERRNO);
const engine = { pid: 4242, ownsThread: (tid: number) => tid === 4243 };
const table = continueTable(CONTINUED);

function actionOf(name: string, ...args: (number | bigint)[]): number {
  const nr = X64.numbers[name];
  if (nr === undefined) throw new Error(name);
  return run(program, { nr, arch: X64.audit, args: args.map((a) => BigInt.asUintN(64, BigInt(a))) })
    .action;
}
const passes = (name: string, ...args: (number | bigint)[]): boolean =>
  actionOf(name, ...args) === ACTION.allow;
const asks = (name: string, ...args: (number | bigint)[]): boolean =>
  actionOf(name, ...args) === ACTION.notify;
const continues = (phase: Phase, name: string, ...args: (number | bigint)[]): boolean =>
  mayContinue(
    table,
    name,
    args.map((a) => BigInt.asUintN(64, BigInt(a))),
    phase,
    engine,
  );

describe('always, without a look at arguments', () => {
  const names =
    'read write readv writev close munmap brk mremap sched_yield rt_sigprocmask rt_sigreturn restart_syscall epoll_wait epoll_pwait poll ppoll nanosleep getpid gettid getrandom getcpu membarrier exit exit_group set_robust_list rseq'.split(
      ' ',
    );
  it.each(names)('%s', (name) => {
    const nr = X64.numbers[name] ?? -1;
    expect(run(program, { nr, arch: X64.audit, args: [] })).toEqual({
      action: ACTION.allow,
      looked: false,
    });
  });

  it('nothing else passes without a look', () => {
    for (const [nr, name] of syscallNames(X64)) {
      const { action, looked } = run(program, { nr, arch: X64.audit, args: [] });
      if (action === ACTION.allow && !looked) expect(names).toContain(name);
    }
  });
});

describe('by arguments', () => {
  it.each([0x1021, 0x1022, 0x1023])('arch_prctl %i passes', (option) =>
    expect(passes('arch_prctl', option)).toBe(true),
  );
  it.each([0x1001, 0x1002, 0x1011, 0x1024, 0x2001, 0x4001])('arch_prctl %i asks', (option) =>
    expect(asks('arch_prctl', option)).toBe(true),
  );

  it('futex: no absolute real-time wait, except without a time-out', () => {
    expect(passes('futex', 0, 128, 0, 99)).toBe(true);
    expect(passes('futex', 0, 0x189, 0, 0)).toBe(true);
    expect(asks('futex', 0, 0x189, 0, 99)).toBe(true);
    expect(asks('futex', 0, 0x189, 0, 1n << 32n)).toBe(true); // only the high half
  });

  it('futex: none of the locks whose word names a thread of any process', () => {
    for (const command of [6, 7, 8, 11, 12, 13, 2, 14, 64])
      for (const flags of [0, 0x80, 0x100, 0x180])
        expect(asks('futex', 0, command | flags, 0, 0)).toBe(true);
    for (const command of [0, 1, 3, 4, 5, 9, 10]) {
      expect(passes('futex', 0, command | 0x80, 0, 99)).toBe(true);
      expect(passes('futex', 0, command | 0x180, 0, 0)).toBe(true);
      expect(asks('futex', 0, command | 0x200, 0, 0)).toBe(true);
    }
  });

  it("clock_gettime: the machine's clocks; not TAI, not another process's", () => {
    for (const id of [0, 1, 2, 3, 4, 5, 6, 7]) expect(passes('clock_gettime', id)).toBe(true);
    for (const id of [8, 9, 10, 11, -6, -2, 0xffff_fffan])
      expect(asks('clock_gettime', id)).toBe(true);
    for (const id of [8, 11, -6]) expect(asks('clock_getres', id)).toBe(true);
  });

  it('clock_nanosleep: monotonic, or relative', () => {
    expect(passes('clock_nanosleep', 1, 1)).toBe(true);
    expect(passes('clock_nanosleep', 0, 0)).toBe(true);
    expect(asks('clock_nanosleep', 0, 1)).toBe(true);
    expect(asks('clock_nanosleep', 11, 0)).toBe(true);
  });

  it('mmap: never executable, anonymous or private', () => {
    expect(passes('mmap', 0, 4096, 3, 0x22, -1, 0)).toBe(true);
    expect(passes('mmap', 0, 4096, 3, 0x21, -1, 0)).toBe(true);
    expect(passes('mmap', 0, 4096, 1, 0x2, 5, 0)).toBe(true);
    expect(passes('mmap', 0, 4096, 3, 0x4022, -1, 0)).toBe(true);
    expect(asks('mmap', 0, 4096, 4, 0x22, -1, 0)).toBe(true);
    expect(asks('mmap', 0, 4096, 7, 0x2, 5, 0)).toBe(true);
    expect(asks('mmap', 0, 4096, 1, 0x1, 5, 0)).toBe(true); // shared file
    expect(asks('mmap', 0, 4096, 3, 0x3, 5, 0)).toBe(true); // MAP_SHARED_VALIDATE has the private bit set
  });

  it('mprotect: never executable', () => {
    for (const prot of [0, 1, 2, 3, 0x0100_0000]) expect(passes('mprotect', 0, 1, prot)).toBe(true);
    for (const prot of [4, 5, 7, 0x0100_0004]) expect(asks('mprotect', 0, 1, prot)).toBe(true);
  });

  it('madvise: the advice of an allocator', () => {
    const good = [0, 3, 4, 8, 10, 14, 15, 16, 17, 18, 19, -1];
    for (const advice of good) expect(passes('madvise', 0, 0, advice)).toBe(true);
    for (let advice = 0; advice < 128; advice++)
      if (!good.includes(advice))
        expect([advice, asks('madvise', 0, 0, advice)]).toEqual([advice, true]);
  });

  it('getrusage: itself', () => {
    expect(passes('getrusage', 0)).toBe(true);
    expect(passes('getrusage', 1)).toBe(true);
    expect(asks('getrusage', -1)).toBe(true);
  });

  it('clone3 answers ENOSYS', () => expect(actionOf('clone3')).toBe(ACTION.errno | 38));
});

describe('everything else', () => {
  it('asks: every other call of the table, with any arguments', () => {
    const ruled = new Set([...FILTER_ALLOW, ...FILTER_ERRNO].map((rule) => rule.call));
    const others = [...syscallNames(X64)].filter(([, name]) => !ruled.has(name));
    expect(others.length).toBeGreaterThan(280);
    fc.assert(
      fc.property(
        fc.constantFrom(...others),
        fc.array(fc.bigInt(0n, 2n ** 64n - 1n), { minLength: 6, maxLength: 6 }),
        ([nr], args) => {
          expect(run(program, { nr, arch: X64.audit, args }).action).toBe(ACTION.notify);
        },
      ),
    );
  });

  it('a foreign architecture and x32 numbers kill', () => {
    for (const arch of [0x4000_0003, ARM64.audit, 0])
      expect(run(program, { nr: 0, arch, args: [] }).action).toBe(ACTION.killProcess);
    for (const nr of [0x4000_0000, 0x4000_0027, -1])
      expect(run(program, { nr, arch: X64.audit, args: [] }).action).toBe(ACTION.killProcess);
  });

  it('the filter decides as its rules say, whatever the arguments', () => {
    const interesting = fc.oneof(
      fc.constantFrom(
        0n,
        1n,
        2n,
        3n,
        4n,
        0x20n,
        0x21n,
        0x22n,
        0x100n,
        0x1021n,
        0xffff_ffffn,
        1n << 32n,
      ),
      fc.bigInt(0n, 2n ** 64n - 1n),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...FILTER_ALLOW),
        fc.array(interesting, { minLength: 6, maxLength: 6 }),
        (rule, args) => {
          const nr = X64.numbers[rule.call] ?? -1;
          const expected = rule.alternatives.some((all) => matches(all, args, engine));
          expect(run(program, { nr, arch: X64.audit, args }).action).toBe(
            expected ? ACTION.allow : ACTION.notify,
          );
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('compiles for arm64, where some calls do not exist', () => {
    const arm = compile(ARM64, FILTER_ALLOW, FILTER_ERRNO);
    expect(arm.length).toBeLessThan(program.length);
    const action = (nr: number): number => run(arm, { nr, arch: ARM64.audit, args: [] }).action;
    expect(action(63)).toBe(ACTION.allow); // read
    expect(action(56)).toBe(ACTION.notify); // openat
    expect(run(arm, { nr: 63, arch: X64.audit, args: [] }).action).toBe(ACTION.killProcess);
  });

  it('every jump stays inside, and the encoding is eight bytes each', () => {
    program.forEach(({ code, jt, jf }, i) => {
      if (code !== 0x06) expect(i + 1 + Math.max(jt, jf)).toBeLessThan(program.length);
    });
    expect(encode(program)).toHaveLength(program.length * 8);
    expect(encode([{ code: 0x15, jt: 1, jf: 2, k: 0xc000_003e }]).toString('hex')).toBe(
      '150001023e0000c0',
    );
  });
});

describe('phases', () => {
  /** [call, arguments, last phase in which it may go on] */
  const rows: [string, (number | bigint)[], Phase | 'never'][] = [
    ['mmap', [0, 4096, 5, 2, 7, 0], 'start'],
    ['mmap', [0, 4096, 1, 1, 7, 0], 'data'],
    ['mmap', [0, 4096, 3, 1, 7, 0], 'start'],
    ['mprotect', [0, 4096, 5], 'start'],
    ['pkey_alloc', [0, 0], 'start'],
    ['prctl', [15, 1], 'start'],
    ['prctl', [4, 0], 'start'],
    ['prctl', [4, 1], 'never'],
    ['prctl', [1, 0], 'never'],
    ['prctl', [22, 2], 'never'],
    ['ioctl', [1, 0x5401], 'start'],
    ['ioctl', [1, 0x5412], 'never'],
    ['ioctl', [3, 0x4008_6602], 'never'],
    ['ioctl', [3, 0x8912], 'never'],
    ['rt_sigaction', [11, 1], 'start'],
    ['rt_sigaction', [4, 1], 'start'],
    ['rt_sigaction', [13, 1], 'data'],
    ['fstat', [3], 'data'],
    ['lseek', [3], 'data'],
    ['pread64', [3], 'data'],
    ['dup2', [1, 2], 'data'],
    ['pipe2', [0, 0], 'data'],
    ['getuid', [], 'data'],
    ['sysinfo', [1], 'data'],
    ['capget', [1, 2], 'start'],
    ['sched_getaffinity', [0, 8, 1], 'data'],
    ['sched_getaffinity', [4243, 8, 1], 'data'],
    ['sched_getaffinity', [1, 8, 1], 'never'],
    ['prlimit64', [0, 7, 0, 1], 'data'],
    ['prlimit64', [4242, 7, 0, 1], 'data'],
    ['prlimit64', [1, 7, 0, 1], 'never'],
    ['prlimit64', [0, 7, 1, 0], 'never'],
    ['prlimit64', [0, 7, 1n << 32n, 0], 'never'],
    ['fcntl', [1, 3], 'data'],
    ['fcntl', [1, 4, 0x800], 'data'],
    ['fcntl', [1, 4, 0x2000], 'never'],
    ['fcntl', [1, 8, 1], 'never'],
    ['fcntl', [1, 10, 9], 'never'],
    ['fcntl', [1, 1024, 1], 'never'],
    ['fcntl', [1, 1031, 1], 'never'],
    ['epoll_ctl', [3, 1, 1], 'sealed'],
    ['tgkill', [4242, 4243, 6], 'sealed'],
    ['tgkill', [4242, 4243, 10], 'start'],
    ['tgkill', [1, 1, 6], 'never'],
    ['kill', [4242, 0], 'never'],
    ['seccomp', [1, 0, 1], 'never'],
    ['socket', [2, 1, 0], 'never'],
    ['openat', [0, 0, 0], 'never'],
    ['stat', [0, 0], 'never'],
    ['execve', [0, 0, 0], 'never'],
  ];
  it.each(rows)('%s %s goes on until: %s', (name, args, until) => {
    const last = until === 'never' ? -1 : PHASES.indexOf(until);
    PHASES.forEach((phase, i) =>
      expect([phase, continues(phase, name, ...args)]).toEqual([phase, i <= last]),
    );
  });

  it('every continued call is in the table of calls', () => {
    for (const { call } of CONTINUED)
      expect([call, X64.numbers[call]]).toEqual([call, expect.any(Number)]);
  });
});

describe('the tables of numbers', () => {
  it.each(['x64', 'arm64'] as const)(
    '%s is what the kernel headers say, where they are',
    async (arch) => {
      const { generate, parseHeader, tableFile } = (await import(
        path.join(REPOSITORY, 'scripts/syscalls.mjs')
      )) as {
        generate: (arch: string) => string | undefined;
        parseHeader: (text: string, macros: string[]) => Record<string, number>;
        tableFile: (arch: string) => string;
      };
      expect(
        parseHeader(
          '#define __NR_a 1\n#if __BITS_PER_LONG == 64 && !defined(X)\n#define __NR_b __NR3264_b\n#else\n#define __NR_c 3\n#endif\n#define __NR3264_b 2\n',
          [],
        ),
      ).toEqual({ a: 1, b: 2 });
      const committed = arch === 'x64' ? X64.numbers : ARM64.numbers;
      expect(existsSync(tableFile(arch))).toBe(true);
      expect(readFileSync(tableFile(arch), 'utf8')).toContain('Generated by scripts/syscalls.mjs');
      const text = generate(arch);
      if (text === undefined) return;
      // Another version of the headers knows more or fewer calls, but never another number.
      for (const [, name, number] of text.matchAll(/^ {2}(\w+): (\d+),$/gm))
        if (name !== undefined && committed[name] !== undefined)
          expect([name, committed[name]]).toEqual([name, Number(number)]);
    },
  );

  it("agrees with WARDEN.md's numbers for arm64", () => {
    const known = {
      openat: 56,
      newfstatat: 79,
      fstat: 80,
      statx: 291,
      faccessat: 48,
      readlinkat: 78,
      read: 63,
      mmap: 222,
      clone: 220,
      execve: 221,
      futex: 98,
      seccomp: 277,
      prctl: 167,
      socket: 198,
      connect: 203,
      rseq: 293,
      clone3: 435,
    };
    expect(ARM64.numbers).toMatchObject(known);
    for (const absent of ['open', 'stat', 'fork', 'arch_prctl', 'epoll_wait', 'poll'])
      expect(ARM64.numbers[absent]).toBeUndefined();
  });
});
