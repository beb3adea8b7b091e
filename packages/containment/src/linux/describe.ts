/** Says of each refused call what kind of attempt it is and where it aimed, as data: one row a call. */
import type { ViolationKind } from '../sandbox.ts';
import { escapeBytes, escapeText } from '../warden/escape.ts';
import { ADDRESS_BYTES_MAX } from '../warden/limits.ts';
import { readString, type ReadableMemory } from './memory.ts';
import { decodeAddress } from './sockaddr.ts';

export type Target = (args: readonly bigint[], memory: ReadableMemory) => string;

const low = (value: bigint | undefined): number => Number((value ?? 0n) & 0xffff_ffffn);
const signed = (value: bigint | undefined): number => low(value) | 0;

export function pathText(memory: ReadableMemory, address: bigint | undefined): string {
  const path = readString(memory, address ?? 0n);
  return path === undefined ? 'unreadable path' : escapeBytes(path);
}

const path =
  (...at: number[]): Target =>
  (args, memory) =>
    escapeText(at.map((i) => pathText(memory, args[i])).join(' -> '), undefined);
export const addressAt = (
  memory: ReadableMemory,
  pointer: bigint | undefined,
  length: bigint | undefined,
) => decodeAddress(memory.read(pointer ?? 0n, Math.min(low(length), ADDRESS_BYTES_MAX)));
const address =
  (pointer: number, length: number): Target =>
  (args, memory) =>
    addressAt(memory, args[pointer], args[length]).text;
const hex: Target = (args) => args.map((a) => `0x${a.toString(16)}`).join(' ');
const descriptor: Target = (args) => `descriptor ${signed(args[0])}`;
const process: Target = (args) => `process ${signed(args[0])}`;
const signal =
  (pid: number, number: number): Target =>
  (args) =>
    `process ${signed(args[pid])} signal ${signed(args[number])}`;

export interface CallRow {
  readonly kind: ViolationKind;
  readonly target: Target;
}

const rows = (kind: ViolationKind, target: Target, names: string): [string, CallRow][] =>
  names.split(' ').map((name) => [name, { kind, target }]);

const CALLS: ReadonlyMap<string, CallRow> = new Map([
  ...rows('network', address(1, 2), 'connect bind'),
  ...rows('network', descriptor, 'listen accept accept4 recvfrom recvmsg recvmmsg shutdown'),
  ...rows('network', descriptor, 'setsockopt getsockopt getsockname getpeername'),
  ...rows(
    'ipc',
    hex,
    'socketpair mq_open mq_unlink semget semop semctl semtimedop shmget shmat shmctl',
  ),
  ...rows(
    'ipc',
    hex,
    'msgget msgsnd msgrcv msgctl keyctl add_key request_key pidfd_getfd pidfd_open',
  ),
  ...rows('exec', path(0), 'execve'),
  ...rows('exec', path(1), 'execveat'),
  ...rows('exec', hex, 'fork vfork clone clone3 unshare setns uselib'),
  ...rows('signal', signal(0, 1), 'kill tkill rt_sigqueueinfo pidfd_send_signal'),
  ...rows('signal', signal(0, 2), 'tgkill rt_tgsigqueueinfo'),
  ...rows('signal', hex, 'rt_sigaction signalfd signalfd4 timer_create setitimer alarm'),
  ...rows(
    'memory',
    hex,
    'ptrace process_vm_readv process_vm_writev process_madvise kcmp move_pages',
  ),
  ...rows('memory', hex, 'userfaultfd mmap mprotect pkey_mprotect pkey_alloc pkey_free'),
  ...rows('memory', hex, 'memfd_secret mlock mlock2 mlockall remap_file_pages mincore'),
  ...rows('memory', path(0), 'memfd_create'),
  ...rows(
    'limit',
    process,
    'prlimit64 sched_setaffinity sched_setscheduler sched_setparam sched_setattr',
  ),
  ...rows('limit', hex, 'setrlimit setpriority ioprio_set nice'),
  ...rows(
    'write',
    path(0),
    'creat unlink rmdir mkdir chmod chown lchown truncate utime utimes mknod',
  ),
  ...rows(
    'write',
    path(0),
    'setxattr lsetxattr removexattr lremovexattr acct swapon swapoff umount2',
  ),
  ...rows(
    'write',
    path(1),
    'unlinkat mkdirat fchmodat fchmodat2 fchownat utimensat futimesat mknodat',
  ),
  ...rows('write', path(0, 1), 'rename link symlink mount pivot_root'),
  ...rows('write', path(1, 3), 'renameat renameat2 linkat'),
  ...rows('write', path(0, 2), 'symlinkat'),
  ...rows('write', descriptor, 'ftruncate fallocate fchmod fchown fsetxattr fremovexattr pwrite64'),
  ...rows(
    'write',
    descriptor,
    'pwritev pwritev2 fsync fdatasync sync_file_range syncfs sendfile splice',
  ),
  ...rows('write', descriptor, 'copy_file_range tee vmsplice flock'),
  ...rows('read', path(0), 'statfs getxattr lgetxattr listxattr llistxattr chdir chroot open_tree'),
  ...rows('read', path(1), 'inotify_add_watch name_to_handle_at fanotify_mark'),
  ...rows(
    'read',
    descriptor,
    'fstat lseek pread64 preadv preadv2 getdents getdents64 fstatfs fchdir',
  ),
  ...rows('read', descriptor, 'fgetxattr flistxattr open_by_handle_at inotify_init1 fanotify_init'),
  ...rows('monitor', hex, 'seccomp'),
]);

/** Signals by the back door: F_SETSIG F_SETOWN F_SETOWN_EX F_NOTIFY, and F_SETFL (refused only with O_ASYNC). */
const FCNTL_SIGNALS = new Set([10, 8, 15, 1026, 4]);
const F_SETLEASE = 1024;
const TIOCSTI = 0x5412;
/** PDEATHSIG DUMPABLE SECCOMP NO_NEW_PRIVS and PR_SET_PTRACER: loosening the monitor's hold. */
const PRCTL_MONITOR = new Set([1, 4, 22, 38, 0x5961_6d61]);

function row(call: string, args: readonly bigint[]): CallRow {
  if (call === 'fcntl') {
    const command = low(args[1]);
    const kind = FCNTL_SIGNALS.has(command) ? 'signal' : command === F_SETLEASE ? 'write' : 'other';
    return {
      kind,
      target: (a) => `descriptor ${signed(a[0])} command ${low(a[1])} value ${signed(a[2])}`,
    };
  }
  if (call === 'ioctl') {
    const kind = low(args[1]) === TIOCSTI ? 'ipc' : 'other';
    return {
      kind,
      target: (a) => `descriptor ${signed(a[0])} request 0x${low(a[1]).toString(16)}`,
    };
  }
  if (call === 'prctl')
    return { kind: PRCTL_MONITOR.has(low(args[0])) ? 'monitor' : 'other', target: hex };
  return CALLS.get(call) ?? { kind: 'other', target: hex };
}

/** Calls whose argument of this number is a process id. */
const PROCESS_ARGUMENT: Readonly<Record<string, number>> = {
  kill: 0,
  tkill: 0,
  tgkill: 0,
  rt_sigqueueinfo: 0,
  rt_tgsigqueueinfo: 0,
  pidfd_open: 0,
  prlimit64: 0,
  sched_setaffinity: 0,
  sched_setscheduler: 0,
  sched_setparam: 0,
  sched_setattr: 0,
  process_vm_readv: 0,
  process_vm_writev: 0,
  ptrace: 1,
  setpriority: 1,
  kcmp: 0,
};
const FCNTL_SETOWN = 8;

/** What is recorded of a refused call; `monitors` are the warden's and the agent's process ids. */
export function describe(
  call: string,
  args: readonly bigint[],
  memory: ReadableMemory,
  monitors: ReadonlySet<number>,
): { readonly kind: ViolationKind; readonly target: string } {
  const { kind, target } = row(call, args);
  const at = call === 'fcntl' && low(args[1]) === FCNTL_SETOWN ? 2 : PROCESS_ARGUMENT[call];
  // A negative id names a process group.
  const aimsAtMonitor = at !== undefined && monitors.has(Math.abs(signed(args[at])));
  return { kind: aimsAtMonitor ? 'monitor' : kind, target: target(args, memory) };
}
