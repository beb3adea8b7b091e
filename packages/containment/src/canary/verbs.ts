/**
 * The attempts that are more than one call with plain arguments: look-ups and programs as the C library does them,
 * threads by the hundred, code of our own making, floods, and a crash.
 */
import koffi from 'koffi';
import { addressOf, type CallResult, type Native } from './native.ts';
import type { CanaryPlatform } from './types.ts';

export interface VerbInput {
  readonly native: Native;
  readonly platform: CanaryPlatform;
  readonly args: readonly bigint[];
}

export type VerbResult = CallResult & { readonly note: string };
export type Verb = (input: VerbInput) => VerbResult;

const refusal = (errno: number, note = ''): VerbResult => ({
  result: -1n,
  errno: Math.abs(errno),
  note,
});
const success = (note = ''): VerbResult => ({ result: 0n, errno: 0, note });

type LibcFunction = (...args: readonly (bigint | number | null)[]) => number | bigint;
const libcFunctions = new Map<string, LibcFunction>();
let library: ReturnType<typeof koffi.load> | undefined;

function libc(name: string, types: readonly string[], result = 'int'): LibcFunction {
  let f = libcFunctions.get(name);
  if (f === undefined) {
    library ??= koffi.load(null);
    f = library.func(name, result, [...types]) as LibcFunction;
    libcFunctions.set(name, f);
  }
  return f;
}

/** Functions that answer an error number, zero being success. */
const answered = (value: number | bigint, note = ''): VerbResult =>
  Number(value) === 0 ? success(note) : refusal(Number(value), note);

const PROT_READ_WRITE = 3n;
const PROT_READ_EXEC = 5n;
const MAP_PRIVATE_ANONYMOUS = { linux: 0x22n, darwin: 0x1002n } as const;
const PAGE_BYTES = { linux: 4096n, darwin: 16_384n } as const;
const SHELL_RAN_STATUS = 42 << 8;
const DESCRIPTORS_LOOKED_AT = 256;
const F_GETFD = 1n;
/** Whole seconds that a surplus thread sleeps, so that all are alive together. */
const THREAD_SLEEP_SECONDS = 20n;

/** Types of descriptor in st_mode that an engine may hold: pipes, and the nameless ones of the event loop (type 0). */
const S_IFMT = 0o170000;
const S_IFIFO = 0o010000;
const ST_MODE_OFFSET_X64 = 24;

/** args: name. */
const resolve: Verb = ({ args }) => {
  const list = Buffer.alloc(8);
  const f = libc('getaddrinfo', ['int64', 'int64', 'int64', 'int64']);
  return answered(f(args[0] ?? 0n, 0n, 0n, addressOf(list)), 'getaddrinfo');
};

/** args: command, whose exit code is 42 when it ran. */
const system: Verb = ({ args }) => {
  const status = Number(libc('system', ['int64'])(args[0] ?? 0n));
  return status === SHELL_RAN_STATUS ? success('the shell ran') : refusal(1, `status ${status}`);
};

/** args: program, argv. */
const spawn: Verb = ({ args }) => {
  const pid = Buffer.alloc(8);
  const environment = Buffer.alloc(8);
  const f = libc('posix_spawn', ['int64', 'int64', 'int64', 'int64', 'int64', 'int64']);
  return answered(
    f(addressOf(pid), args[0] ?? 0n, 0n, 0n, args[1] ?? 0n, addressOf(environment)),
    'posix_spawn',
  );
};

/** args: how many. Refused when not all could be had. */
const threads: Verb = ({ native, args }) => {
  const sleep = native.symbol('sleep');
  const create = libc('pthread_create', ['int64', 'int64', 'int64', 'int64']);
  const handle = Buffer.alloc(8);
  for (let made = 0n; made < (args[0] ?? 0n); made += 1n) {
    const error = Number(create(addressOf(handle), 0n, sleep, THREAD_SLEEP_SECONDS));
    if (error !== 0) return refusal(error, `after ${made} threads`);
  }
  return success(`${args[0]} threads`);
};

/** args: machine code, bytes of it. Runs it if memory can be made executable. */
const code: Verb = ({ native, platform, args }) => {
  const [source = 0n, bytes = 0n] = args;
  const pageBytes = PAGE_BYTES[platform];
  const page = native.call('mmap', [
    0n,
    pageBytes,
    PROT_READ_WRITE,
    MAP_PRIVATE_ANONYMOUS[platform],
    -1n,
    0n,
  ]);
  if (page.result === -1n) return { ...page, note: 'no memory' };
  libc('memcpy', ['int64', 'int64', 'int64'], 'int64')(page.result, source, bytes);
  const sealed = native.call('mprotect', [page.result, pageBytes, PROT_READ_EXEC]);
  if (sealed.result !== 0n) return { ...sealed, note: 'memory could not be made executable' };
  native.jump(page.result);
  return success('the code ran');
};

/** Writes where nothing may be written: ends in SIGSEGV. */
const crash: Verb = () => {
  libc('memset', ['int64', 'int', 'int64'], 'int64')(16n, 0, 8n);
  return success('still alive');
};

const abort: Verb = () => {
  libc('abort', [], 'void')();
  return success('still alive');
};

/** args: how many, then folder. That many files are opened in vain. */
const flood: Verb = ({ native, args }) => {
  const [count = 0n, folder = 0n] = args;
  const prefix = koffi.decode.string(folder);
  const openat = native.symbol('openat') === 0n ? 'open' : 'openat';
  for (let i = 0n; i < count; i += 1n) {
    const path = Buffer.from(`${prefix}/${i}\0`);
    const answer = native.call(openat, [-100n, addressOf(path), 0n]);
    if (answer.result !== -1n) return success(`file ${i} opened`);
  }
  return refusal(
    native.call(openat, [-100n, addressOf(Buffer.from(`${prefix}/last\0`)), 0n]).errno,
    `${count} times`,
  );
};

/** Refused when nothing is inherited: no descriptor but pipes and the event loop's own. */
const descriptors: Verb = ({ native, platform }) => {
  const strange: string[] = [];
  let open = 0;
  for (let fd = 0n; fd < DESCRIPTORS_LOOKED_AT; fd += 1n) {
    if (native.call('fcntl', [fd, F_GETFD]).result < 0n) continue;
    open += 1;
    if (platform !== 'linux') continue;
    const stat = Buffer.alloc(144);
    if (native.call('fstat', [fd, addressOf(stat)]).result !== 0n) continue;
    const type = stat.readUInt32LE(ST_MODE_OFFSET_X64) & S_IFMT;
    if (type !== S_IFIFO && type !== 0) strange.push(`${fd}:${type.toString(8)}`);
  }
  return strange.length === 0
    ? refusal(1, `${open} descriptors, pipes and the event loop's own`)
    : success(`strange descriptors ${strange.join(' ')}`);
};

/** args: how many. Pipes until the system says no. */
const pipes: Verb = ({ native, platform, args }) => {
  const pair = Buffer.alloc(8);
  const made: bigint[] = [];
  let error = 0;
  for (let i = 0n; i < (args[0] ?? 0n) && error === 0; i += 1n) {
    const answer = native.call(platform === 'linux' ? 'pipe2' : 'pipe', [addressOf(pair), 0n]);
    if (answer.result === 0n) made.push(BigInt(pair.readInt32LE(0)), BigInt(pair.readInt32LE(4)));
    else error = answer.errno;
  }
  for (const fd of made) native.call('close', [fd]);
  return error === 0
    ? success(`${made.length} descriptors`)
    : refusal(error, `after ${made.length} descriptors`);
};

/** macOS; args: service name. */
const mach: Verb = ({ native, args }) => {
  const bootstrap = koffi.decode.uint32(native.symbol('bootstrap_port'));
  const port = Buffer.alloc(8);
  const f = libc('bootstrap_look_up', ['uint32', 'int64', 'int64']);
  return answered(f(bootstrap, args[0] ?? 0n, addressOf(port)), 'bootstrap_look_up');
};

export const VERBS: Readonly<Record<string, Verb>> = {
  resolve,
  system,
  spawn,
  threads,
  code,
  crash,
  abort,
  flood,
  descriptors,
  pipes,
  mach,
};
