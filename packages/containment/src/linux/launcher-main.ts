/**
 * The launcher: takes everything away from itself, puts the filter in place, hands its listener to the warden and
 * turns into the engine. It runs trusted code only; from execveat on the process is the engine.
 *
 * The order matters: what needs the user's old rights comes first (opening the program, oom_score_adj), a change of
 * user clears the death signal, Landlock and the filter need no_new_privs, and the filter comes last.
 *
 * Two threads: the pool's only one gets the filter and becomes the engine; the main thread never has one and hands
 * over the listener. The other way round a start could hang: with the filter on, whatever JavaScript asks the kernel
 * (V8 counts processors when its threads get into each other's way) waits for an answer of the warden, and the warden
 * waits for the listener.
 */
import {
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { ENGINE_RLIMITS, RLIMIT_NPROC } from '../warden/limits.ts';
import { hostArch, numberOf } from './arch.ts';
import { compile, encode } from './bpf.ts';
import { sendDescriptor } from './handover.ts';
import { openInterpreter, restrict } from './landlock.ts';
import {
  JOB_BYTES_MAX,
  LAUNCHER_FAULT_EXIT,
  LAUNCHER_SOCKET_FD,
  type LauncherJob,
  type LauncherReply,
} from './launcher-job.ts';
import { addressOf, libc } from './libc.ts';
import { FALLBACK_UID } from './identity.ts';
import { programImage } from './program-image.ts';
import { FILTER_ALLOW, FILTER_ERRNO } from './rules.ts';

const PR_SET_PDEATHSIG = 1;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const SIGKILL = 9;
const CAPABILITY_LAST = 63;
const CAPABILITY_VERSION_3 = 0x2008_0522;
const SECCOMP_SET_MODE_FILTER = 1;
/** NEW_LISTENER and WAIT_KILLABLE_RECV: without the second, a signal cancels a notification. */
const FILTER_FLAGS = 8 | 32;
const CLOSE_RANGE_CLOEXEC = 4;
const F_SETFD = 2;
const AT_EMPTY_PATH = 0x1000;

class StepError extends Error {
  readonly step: string;
  readonly errno: number;
  constructor(step: string, message: string, errno = 0) {
    super(message);
    this.step = step;
    this.errno = errno;
  }
}

const arch = hostArch();
const c = libc();
const call = (name: string, ...args: (number | bigint)[]): number =>
  c.syscall(numberOf(arch, name), ...args);
function must(step: string, result: number): number {
  if (result < 0) throw new StepError(step, `${step} failed, errno ${c.errno()}`, c.errno());
  return result;
}
/** The same on the thread that becomes the engine. */
const onEngineThread = (name: string, ...args: (number | bigint)[]): Promise<number> =>
  c.syscallOnPool(numberOf(arch, name), ...args);
async function mustOnEngineThread(
  step: string,
  name: string,
  ...args: (number | bigint)[]
): Promise<number> {
  const result = await onEngineThread(name, ...args);
  if (result >= 0) return result;
  const errno = await c.errnoOnPool();
  throw new StepError(step, `${step} failed, errno ${errno}`, errno);
}
const reply = (message: LauncherReply): void => {
  writeSync(LAUNCHER_SOCKET_FD, `${JSON.stringify(message)}\n`);
};

function readJob(): LauncherJob {
  const parts: Buffer[] = [];
  let total = 0;
  for (;;) {
    const part = Buffer.alloc(16 * 1024);
    const n = readSync(LAUNCHER_SOCKET_FD, part, 0, part.length, null);
    if (n === 0) throw new StepError('job', 'the warden closed the socket before it sent the job');
    parts.push(part.subarray(0, n));
    total += n;
    if (part[n - 1] === 0x0a) break;
    if (total > JOB_BYTES_MAX) throw new StepError('job', 'the job is too long');
  }
  return JSON.parse(Buffer.concat(parts).toString('utf8')) as LauncherJob;
}

/** Becomes the first user that the namespace maps; all threads, no supplementary groups. */
function becomeUnprivileged(uids: readonly number[]): void {
  const none = 'this user namespace maps no unprivileged user';
  if (uids.length === 0) throw new StepError('user', none);
  must('setgroups', c.setgroups(0, Buffer.alloc(4)));
  for (const uid of uids) {
    if (c.setresgid(uid, uid, uid) < 0) continue;
    must('setresuid', c.setresuid(uid, uid, uid));
    return;
  }
  throw new StepError('user', none);
}

function dropBoundingSet(): void {
  for (let capability = 0; capability <= CAPABILITY_LAST; capability++)
    if (call('prctl', PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) break; // EINVAL: past the kernel's last one
}

/** Empty sets on this thread, from which the one that lives on is made; checked there. */
function dropCapabilities(): void {
  call('prctl', PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  const header = Buffer.alloc(8);
  header.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  must('capset', call('capset', addressOf(header), addressOf(Buffer.alloc(24))));
}

function checkRights(thread: number): void {
  const status = readFileSync(`/proc/self/task/${thread}/status`, 'utf8');
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
    if (!/^0+$/.test(field(set)))
      throw new StepError('capabilities', `${set} is ${field(set)}, not empty`);
  if (field('NoNewPrivs') !== '1') throw new StepError('no_new_privs', 'no_new_privs is not set');
  if (field('Uid').split(/\s+/).includes('0'))
    throw new StepError('user', 'the engine would run as root');
}

function setLimits(job: LauncherJob, ownUser: boolean): void {
  const set = (resource: number, value: number): void => {
    const pair = Buffer.alloc(16);
    must(`getrlimit ${resource}`, call('prlimit64', 0, resource, 0, addressOf(pair)));
    const hard = pair.readBigUInt64LE(8);
    // Only root may raise what whoever started us has lowered.
    const lowest = hard < BigInt(value) ? hard : BigInt(value);
    pair.writeBigUInt64LE(lowest, 0);
    pair.writeBigUInt64LE(lowest, 8);
    must(`setrlimit ${resource}`, call('prlimit64', 0, resource, addressOf(pair), 0));
  };
  for (const { resource, value } of ENGINE_RLIMITS) set(resource, value);
  // The launcher's own threads count until execveat, so a little more than the engine may have.
  if (ownUser) set(RLIMIT_NPROC, job.threads_max + 16);
}

/** Memory that the other thread's calls point into: not to be collected while they run. */
const held: Buffer[] = [];
function pointerTo(memory: Buffer): bigint {
  held.push(memory);
  return addressOf(memory);
}

/** A null-terminated array of C strings. */
function stringArray(strings: readonly string[]): bigint {
  const array = Buffer.alloc(8 * (strings.length + 1));
  strings.forEach((s, i) => {
    array.writeBigUInt64LE(pointerTo(Buffer.from(`${s}\0`, 'utf8')), 8 * i);
  });
  return pointerTo(array);
}

async function main(): Promise<void> {
  const job = readJob();
  reply({ type: 'begun' });
  const original = openSync('/proc/self/exe', constants.O_RDONLY);
  const interpreter = openInterpreter(original);
  writeFileSync('/proc/self/oom_score_adj', '1000');
  const mode = fstatSync(original).mode;
  const program = job.is_root && (mode & 0o001) === 0 ? programImage(arch, original) : original;
  if (job.is_root) {
    dropBoundingSet();
    becomeUnprivileged(job.uids);
  }
  dropCapabilities();
  must('no_new_privs', call('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  must('pdeathsig', call('prctl', PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
  // Made now, the engine's thread has what this one has left; only the death signal is not inherited.
  const engineThread = await onEngineThread('gettid');
  await mustOnEngineThread('pdeathsig', 'prctl', PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (process.ppid !== job.warden_pid) throw new StepError('parent', 'the warden is gone');
  checkRights(engineThread);
  const uid = process.getuid?.() ?? -1;
  setLimits(job, job.is_root && uid !== FALLBACK_UID);
  process.umask(0o077);
  process.chdir('/');
  for (const fd of [0, 1, 2]) must('fcntl', call('fcntl', fd, F_SETFD, 0)); // Node marks them close-on-exec
  must('close_range', call('close_range', 3, 0xffff_ffff, CLOSE_RANGE_CLOEXEC));
  // A copy in memory lies on no file system, so Landlock neither knows it nor stops it.
  const executable = [program === original ? original : undefined, interpreter];
  const abi = await restrict(
    arch,
    executable.filter((fd) => fd !== undefined),
    (number, ...args) => c.syscallOnPool(number, ...args),
  );
  const filter = encode(compile(arch, FILTER_ALLOW, FILTER_ERRNO));
  const description = Buffer.alloc(16);
  description.writeUInt16LE(filter.length / 8, 0);
  description.writeBigUInt64LE(pointerTo(filter), 8);
  const argv = stringArray(['node', ...job.argv]);
  const env = stringArray(job.env);
  const ready = { uid, gid: process.getgid?.() ?? -1, landlock_abi: abi, program_fd: program };
  reply({ type: 'ready', ready });
  const filtered = [SECCOMP_SET_MODE_FILTER, FILTER_FLAGS, pointerTo(description)] as const;
  const listener = await mustOnEngineThread('seccomp', 'seccomp', ...filtered);
  if (!sendDescriptor(arch, LAUNCHER_SOCKET_FD, listener))
    throw new StepError('handover', 'the listener could not be sent');
  await mustOnEngineThread(
    'execveat',
    'execveat',
    program,
    pointerTo(Buffer.alloc(1)),
    argv,
    env,
    AT_EMPTY_PATH,
  );
}

try {
  await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  const step = error instanceof StepError ? error.step : 'internal';
  reply({
    type: 'fault',
    fault: { step, errno: error instanceof StepError ? error.errno : 0, message },
  });
  process.exit(LAUNCHER_FAULT_EXIT);
}
