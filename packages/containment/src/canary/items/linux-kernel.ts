/** Doors of the kernel that an engine has no use for, and ways for two processes to share something without a file. */
import { SYSCALLS_X64 } from '../../linux/generated/syscalls-x64.ts';
import { CONTINUED, FILTER_ALLOW, FILTER_ERRNO } from '../../linux/rules.ts';
import type { Arg } from '../types.ts';
import { BOTH, group, type Kinds, type Row, SEALED, way } from './build.ts';

/** Names for memory objects: they would show outside. */
const NAME: Arg = { text: 'minikeep-canary' };

const one = (
  id: string,
  title: string,
  kinds: Kinds,
  call: string,
  args: readonly Arg[] = [],
  target = call,
): Row => ({
  id,
  title,
  target,
  ways: [way(kinds, call, args)],
});

const kernel: Row[] = [
  one('io-uring', 'io_uring: system calls behind the filter', 'other', 'io_uring_setup', [
    4,
    { bytes: 120 },
  ]),
  one('aio', 'asynchronous input and output', 'other', 'io_setup', [1, { bytes: 8 }]),
  one('bpf', 'programs in the kernel (bpf)', 'other', 'bpf', [
    0,
    { words: [1, 4, 4, 1, 0, 0, 0, 0] },
    48,
  ]),
  one('perf', "the processor's counters (perf)", 'other', 'perf_event_open', [
    { bytes: 112 },
    0,
    -1,
    -1,
    0,
  ]),
  one('userfaultfd', 'halting the kernel at a page (userfaultfd)', 'memory', 'userfaultfd', [0]),
  one('landlock', 'walls of its own (Landlock)', 'other', 'landlock_create_ruleset', [0, 0, 1]),
  one('modules', 'kernel modules', 'other', 'finit_module', [0, NAME, 0]),
  one('log', "the kernel's log", 'other', 'syslog', [3, { bytes: 64 }, 64]),
  one('clock', "the machine's clock", 'other', 'clock_settime', [0, { words: [0, 0] }]),
  one('host-name', "the machine's name", 'other', 'sethostname', [NAME, 15]),
  one('ldt', "the processor's segment table", 'other', 'modify_ldt', [0, { bytes: 16 }, 16]),
  one('ports', "the machine's input and output ports", 'other', 'iopl', [3]),
  one('personality', 'another personality', 'other', 'personality', [0x0040_0000]),
  one(
    'events',
    'timers by signal and by descriptor',
    ['other', 'signal'],
    'timerfd_create',
    [1, 0],
  ),
  {
    id: 'identity',
    title: 'another user, another group, more capabilities',
    target: 'setuid, setgid, setgroups, capset',
    ways: [
      way('other', 'setuid', [0]),
      way('other', 'setresuid', [0, 0, 0]),
      way('other', 'setgid', [0]),
      way('other', 'setgroups', [0, 0]),
      way('other', 'capset', [{ words: [0x2008_0522] }, { words: [-1, -1, -1] }]),
    ],
  },
  {
    id: 'mounts',
    title: 'file systems of its own',
    target: 'mount, fsopen, open_tree, pivot_root, chroot',
    ways: [
      way('write', 'mount', [{ text: 'none' }, { text: '/' }, { text: 'tmpfs' }, 0, 0]),
      way('other', 'fsopen', [{ text: 'tmpfs' }, 0]),
      way(['other', 'read'], 'open_tree', [-100, { text: '/' }, 1]),
      way('write', 'pivot_root', [{ text: '/' }, { text: '/' }]),
      way('read', 'chroot', [{ text: '/' }]),
      way('write', 'umount2', [{ text: '/' }, 2]),
    ],
  },
  {
    id: 'terminal',
    title: "typing into the operator's terminal",
    target: 'TIOCSTI, TIOCLINUX, TIOCSCTTY',
    ways: [
      way('ipc', 'ioctl', [1, 0x5412, { text: ' ' }], '0x5412'),
      way('other', 'ioctl', [0, 0x541c, { bytes: 8 }], '0x541c'),
      way('other', 'ioctl', [2, 0x540e, 0], '0x540e'),
    ],
    phases: BOTH,
  },
];

const ipc: Row[] = [
  {
    id: 'keys',
    title: "the kernel's keys",
    target: 'keyctl, add_key, request_key',
    ways: [
      way('ipc', 'keyctl', [0, -3, 0]),
      way('ipc', 'add_key', [{ text: 'user' }, NAME, NAME, 15, -3]),
      way('ipc', 'request_key', [{ text: 'user' }, NAME, 0, -3]),
    ],
  },
  {
    id: 'system-v',
    title: 'System V shared memory, semaphores and messages',
    target: 'shmget, semget, msgget',
    ways: [
      way('ipc', 'shmget', [0, 4096, 0o1600]),
      way('ipc', 'shmat', [0, 0, 0]),
      way('ipc', 'semget', [0, 1, 0o1600]),
      way('ipc', 'msgget', [0, 0o1600]),
    ],
  },
  {
    id: 'posix',
    title: 'POSIX message queues and shared memory',
    target: 'mq_open, /dev/shm',
    ways: [
      way('ipc', 'mq_open', [NAME, 0o102, 0o600, 0]),
      way(
        'write',
        'openat',
        [-100, { text: '/dev/shm/minikeep-canary-{nonce}' }, 0o102, 0o600],
        '/dev/shm/',
      ),
    ],
  },
  one('memfd', 'files in memory (memfd)', 'memory', 'memfd_create', [NAME, 0]),
  one('memfd-secret', 'secret memory', 'memory', 'memfd_secret', [0]),
  one('pipes', 'more pipes, once sealed', 'other', 'pipe2', [{ bytes: 8 }, 0]),
  one('duplicates', 'more descriptors, once sealed', 'other', 'dup', [0]),
  one('event-descriptors', 'event descriptors, once sealed', 'other', 'eventfd2', [0, 0]),
  one('watches', 'watching files of others', 'read', 'inotify_init1', [0]),
  one('watches-all', 'watching whole file systems', 'read', 'fanotify_init', [0, 0]),
  {
    id: 'pipe-size',
    title: 'kernel memory in pipes',
    target: 'F_SETPIPE_SZ',
    ways: [way(['other', 'limit'], 'fcntl', [0, 1031, 1_048_576], 'command 1031')],
    phases: BOTH,
  },
];

/**
 * Calls that no row names, with empty arguments: whatever is not on the short list must be refused and reported, even
 * if nobody has thought of a use for it. Left out: what the rules let pass in some form, and the path calls' siblings
 * that other rows try with real paths.
 */
function everyOtherCall(): string[] {
  const lasting = CONTINUED.filter((rule) => rule.until === 'sealed').map((rule) => rule.call);
  const passed = new Set(
    [...FILTER_ALLOW, ...FILTER_ERRNO].map((rule) => rule.call).concat(lasting),
  );
  return Object.keys(SYSCALLS_X64).filter((call) => !passed.has(call));
}

const others: Row = {
  id: 'other-calls',
  title: 'every other system call, by number',
  target: 'all that are not on the short list',
  ways: everyOtherCall().map((call) => way([], call)),
  own: {},
};

export const LINUX_KERNEL = [
  ...group('kernel', 'linux', SEALED, [...kernel, others]),
  ...group('ipc', 'linux', SEALED, ipc),
];
