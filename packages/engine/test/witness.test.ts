// An independent witness: strace follows an engine from its first call to its last, and what succeeded is held against
// the allow-list as WARDEN.md has it, written down here anew. The warden's own rules and records play no part.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  needCommand,
  onlyOn,
  randomModelFile,
  REPOSITORY,
  type Skippable,
} from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cutModel, EXACT } from './line.ts';

const DRIVER = fileURLToPath(new URL('witness-driver.ts', import.meta.url));
const TRACE_MS_MAX = 240_000;
const STEPS = process.env['MINIKEEP_LONG'] === '1' ? 200 : 12;
const run = promisify(execFile);
let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-witness-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));
const ALWAYS =
  words(`read write readv writev close munmap brk mremap sched_yield rt_sigprocmask rt_sigreturn
  restart_syscall epoll_wait epoll_pwait poll ppoll nanosleep getpid gettid getrandom getcpu membarrier exit exit_group
  mmap mprotect futex clock_gettime clock_getres clock_nanosleep madvise arch_prctl getrusage
  clone set_robust_list rseq epoll_ctl sched_getparam sched_getscheduler prctl open openat`);
const BEFORE_SEAL =
  words(`pkey_mprotect pkey_alloc pkey_free fstat lseek pread64 getdents64 fadvise64 dup dup2 dup3
  pipe2 eventfd2 epoll_create1 rt_sigaction sigaltstack set_tid_address getuid geteuid getgid getegid getppid capget
  uname sysinfo getcwd sched_getaffinity prlimit64 getrlimit fcntl ioctl tgkill
  stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat`);
const PROT_EXEC = 4n;
const MAP_SHARED = 1n;
const PROT_WRITE = 2n;
const MAP_ANONYMOUS = 0x20n;

interface Traced {
  readonly at: number;
  readonly name: string;
  readonly args: readonly string[];
  readonly result: string;
}

/** A line of strace -ttt with raw arguments; undefined for what is no call, or never came back. */
function parse(line: string): Traced | undefined {
  const m = /^(\d+\.\d+) (\w+)\((.*)\)\s+= (\S+)/.exec(line);
  if (m === null || m[4] === '?') return undefined;
  return {
    at: Number(m[1]),
    name: m[2] ?? '',
    args: (m[3] ?? '').split(', '),
    result: m[4] ?? '',
  };
}

/** What is wrong with a call that succeeded; undefined: nothing. */
function wrong(
  call: Traced,
  sealed: boolean,
  mayOpen: (file: string) => boolean,
): string | undefined {
  const arg = (i: number): bigint => BigInt(call.args[i] ?? 0);
  if (!ALWAYS.has(call.name) && (sealed || !BEFORE_SEAL.has(call.name)))
    return `${call.name}${sealed ? ' after the seal' : ''}`;
  switch (call.name) {
    case 'mmap':
      if (sealed && (arg(2) & PROT_EXEC) !== 0n) return 'mmap: executable';
      // Shared memory that can be written: with another process, or a file.
      return (arg(3) & 0xfn) === MAP_SHARED &&
        (arg(2) & PROT_WRITE) !== 0n &&
        (arg(3) & MAP_ANONYMOUS) === 0n
        ? 'mmap: shared and writable'
        : undefined;
    case 'mprotect':
      return sealed && (arg(2) & PROT_EXEC) !== 0n ? 'mprotect: executable' : undefined;
    case 'clone':
      return arg(0) === 0x3d0f00n ? undefined : `clone: flags ${call.args[0]}`;
    case 'prlimit64':
      return arg(2) === 0n ? undefined : 'prlimit64: a new limit';
    case 'prctl':
      return [4n, 15n, 16n, 0x5356_4d41n].includes(arg(0)) ? undefined : `prctl ${call.args[0]}`;
    case 'open':
    case 'openat': {
      const text = call.args.join(', ');
      const file = /"(.*)"/.exec(text)?.[1] ?? '';
      if (/O_WRONLY|O_RDWR|O_CREAT|O_TRUNC/.test(text)) return `${call.name}: to write ${file}`;
      return mayOpen(file) ? undefined : `${call.name}: ${file}`;
    }
    default:
      return undefined;
  }
}

async function trace(
  ctx: Skippable,
  name: string,
  args: readonly string[],
): Promise<{ stdout: string; calls: (thread: number) => Promise<string[]> }> {
  const strace = needCommand(ctx, 'strace', 'strace');
  const to = path.join(folder, name);
  const options = [
    '-ff',
    '-q',
    '-ttt',
    '-s',
    '4096',
    '-e',
    'raw=!open,openat',
    '-e',
    'signal=none',
  ];
  try {
    await run(strace, ['-o', `${to}.check`, 'true']);
  } catch {
    ctx.skip('not here: tracing of processes');
  }
  const { stdout } = await run(strace, [...options, '-o', to, process.execPath, ...args], {
    timeout: TRACE_MS_MAX,
    maxBuffer: 1 << 24,
  });
  const calls = async (thread: number): Promise<string[]> =>
    (await readFile(`${to}.${thread}`, 'latin1')).split('\n');
  return { stdout, calls };
}

it(
  'sees nothing succeed that the list does not have, from the first call of an engine to its last',
  { timeout: TRACE_MS_MAX + 60_000 },
  async (ctx) => {
    onlyOn(ctx, 'linux');
    const file = await randomModelFile('qwen2', { weights: 'Q8_0', layers: 4 });
    const { stages } = await cutModel(file, [], folder, { ...EXACT, n_ctx: 256, n_batch: 64 });
    const args = ['--no-warnings', DRIVER, JSON.stringify(stages[0]), String(STEPS)];
    const { stdout, calls } = await trace(ctx, 'engine', args);
    const said = JSON.parse(stdout) as {
      pid: number;
      sealed_seconds: number;
      tokens: number[];
      violations: unknown[];
    };
    expect(said.tokens).toHaveLength(STEPS);
    expect(said.violations).toEqual([]);
    const own = [path.join(REPOSITORY, 'dist/'), file, '/lib', '/usr/lib', '/etc/ld.so.cache'];
    const frozen =
      /^\/proc\/(self\/maps|stat|cpuinfo|meminfo|sys\/vm\/overcommit_memory)$|^\/sys\/devices\/system\/cpu\//;
    const mayOpen = (name: string): boolean =>
      frozen.test(name) || own.some((start) => path.resolve(name).startsWith(start));

    const threads = [said.pid];
    const findings: string[] = [];
    let before = 0;
    let after = 0;
    let refused = 0;
    for (let i = 0; i < threads.length; i++) {
      const lines = await calls(threads[i] ?? 0);
      // The first thread was the launcher; another of its threads became the engine, and took its place.
      const from =
        i === 0 ? lines.findIndex((line) => line.endsWith('execveat resumed>) = 0')) + 1 : 0;
      if (i === 0) expect(from).toBeGreaterThan(0);
      for (const call of lines.slice(from).map(parse)) {
        if (call === undefined) continue;
        const sealed = call.at > said.sealed_seconds;
        if (sealed) after++;
        else before++;
        if (call.result === '-1') {
          refused++;
          continue;
        }
        if (call.name === 'clone') threads.push(Number(call.result));
        const finding = wrong(call, sealed, mayOpen);
        if (finding !== undefined) findings.push(finding);
      }
    }
    expect(findings).toEqual([]);
    // It saw a whole life: Node's start, refusals, threads, and steps.
    expect(before).toBeGreaterThan(500);
    expect(refused).toBeGreaterThan(5);
    expect(threads.length).toBeGreaterThan(1);
    expect(after).toBeGreaterThanOrEqual(2 * STEPS);
  },
);

it(
  'would see what an unguarded process does: the control',
  { timeout: TRACE_MS_MAX + 60_000 },
  async (ctx) => {
    onlyOn(ctx, 'linux');
    const script = `const fs = require('fs'); process.stdout.write(String(process.pid));
      fs.readFileSync('/etc/passwd'); fs.writeFileSync(${JSON.stringify(path.join(folder, 'x'))}, 'x');
      require('dgram').createSocket('udp4').bind(0, function () { this.close(); });
      process.kill(process.pid, 0);`;
    const { stdout, calls } = await trace(ctx, 'control', ['-e', script]);
    const lines = await calls(Number(stdout));
    const findings = lines
      .map(parse)
      .filter((call) => call !== undefined && call.result !== '-1')
      .map((call) => wrong(call!, false, (name) => name.startsWith('/lib')));
    for (const expected of ['openat: /etc/passwd', 'socket', 'bind', 'kill', 'execve'])
      expect(findings).toContain(expected);
    expect(findings.some((f) => f?.startsWith('openat: to write'))).toBe(true);
    expect(findings.some((f) => f?.startsWith('clone'))).toBe(true);
  },
);
