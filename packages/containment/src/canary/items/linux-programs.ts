/** Other programs and other processes: starting them, stopping them, looking into them, changing what they may. */
import type { Arg, Way } from '../types.ts';
import { BOTH, chain, group, type Row, SEALED, START, way } from './build.ts';

const SHELL = '/bin/sh';
const SIGCHLD = 17;
/** Signals that would harm nobody if they arrived. */
const SIGCONT = 18;
const SIGURG = 23;
const SIGSEGV = 11;
const CLONE_VFORK = 0x4000;
const CLONE_NEWUSER = 0x1000_0000;
const CLONE_NEWNET = 0x4000_0000;

/** A pointer to an argument vector. */
const argv = (...words: string[]): Arg => ({ words: [...words.map((text) => ({ text })), 0] });
/** Its exit code says that it ran. */
const shell = argv(SHELL, '-c', 'exit 42');

const programs: Row[] = [
  {
    id: 'shell',
    title: 'becoming a shell',
    target: SHELL,
    ways: [
      way('exec', 'execve', [{ text: SHELL }, shell, 0], SHELL),
      way('exec', 'execveat', [-100, { text: SHELL }, shell, 0, 0], SHELL),
    ],
  },
  {
    id: 'itself',
    title: 'starting its own program again with other arguments',
    target: '{node}',
    ways: [way('exec', 'execve', [{ text: '{node}' }, argv('{node}', '-e', '0'), 0], '{node}')],
  },
  {
    id: 'posix-spawn',
    title: 'a program started by the C library',
    target: SHELL,
    ways: [
      chain(
        'exec',
        ['clone', 'clone3', 'vfork'],
        [{ call: 'verb:spawn', args: [{ text: SHELL }, shell] }],
      ),
      chain(
        'exec',
        ['clone', 'clone3', 'vfork'],
        [{ call: 'verb:system', args: [{ text: 'exit 42' }] }],
      ),
    ],
  },
  {
    id: 'fork',
    title: 'a second process',
    target: 'fork, clone',
    ways: [
      way('exec', 'fork'),
      way('exec', 'vfork'),
      way('exec', 'clone', [SIGCHLD, 0, 0, 0, 0]),
      way('exec', 'clone', [SIGCHLD | CLONE_VFORK, 0, 0, 0, 0]),
    ],
  },
  {
    id: 'namespaces',
    title: 'namespaces of its own',
    target: 'user and network',
    ways: [
      way('exec', 'unshare', [CLONE_NEWUSER]),
      way('exec', 'clone', [SIGCHLD | CLONE_NEWUSER | CLONE_NEWNET, 0, 0, 0, 0]),
      way('exec', 'setns', [0, CLONE_NEWNET]),
    ],
  },
];

/** The filter's fixed answer: glibc asks for every thread, so a report would be noise. */
const clone3: Row = {
  id: 'clone3',
  title: 'no second process by clone3',
  target: 'clone3',
  ways: [
    chain(
      [],
      [],
      [{ call: 'clone3', args: [{ words: [0, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0] }, 88] }],
    ),
  ],
  phases: SEALED,
  unreportable:
    'glibc tries it for each thread; the filter itself answers that there is no such call',
};

const MONITORS = ['$warden', '$agent'] as const;
/** The same at the warden and at the agent. */
const atMonitors = (call: string, args: (pid: '$warden' | '$agent') => readonly Arg[]): Way[] =>
  MONITORS.map((pid) => way('monitor', call, args(pid)));

const processes: Row[] = [
  {
    id: 'kill',
    title: 'signals to the warden and the agent',
    target: 'processes {warden} and {agent}',
    ways: [
      ...atMonitors('kill', (pid) => [pid, SIGCONT]),
      ...atMonitors('tgkill', (pid) => [pid, pid, SIGCONT]),
      ...atMonitors('tkill', (pid) => [pid, SIGCONT]),
      ...atMonitors('rt_sigqueueinfo', (pid) => [pid, SIGURG, { bytes: 128 }]),
    ],
  },
  {
    id: 'kill-all',
    title: 'signals to every process',
    target: 'process -1',
    ways: [way('signal', 'kill', [-1, 0])],
  },
  {
    id: 'pidfd',
    title: 'a handle of the warden and of the agent',
    target: 'processes {warden} and {agent}',
    ways: [
      ...atMonitors('pidfd_open', (pid) => [pid, 0]),
      way('ipc', 'pidfd_getfd', [0, 0, 0]),
      way('signal', 'pidfd_send_signal', [0, 0, 0, 0]),
    ],
  },
  {
    id: 'signal-by-pipe',
    title: "signals by a pipe's owner (F_SETOWN, F_SETSIG, O_ASYNC)",
    target: 'process {warden}',
    ways: [
      way('monitor', 'fcntl', [0, 8, '$warden']),
      way('signal', 'fcntl', [0, 10, SIGURG]),
      way('signal', 'fcntl', [0, 15, { ints: [1, '$warden'] }]),
      way('signal', 'fcntl', [0, 4, 0x2000]),
    ],
    phases: BOTH,
  },
  {
    id: 'debugger',
    title: 'debugging the warden or the agent',
    target: 'processes {warden} and {agent}',
    ways: [
      ...atMonitors('ptrace', (pid) => [0x4206, pid, 0, 0]),
      way('memory', 'ptrace', [0, 0, 0, 0]),
    ],
  },
  {
    id: 'memory-of-others',
    title: 'memory of the warden and the agent',
    target: 'processes {warden} and {agent}',
    ways: [
      ...atMonitors('process_vm_readv', (pid) => [
        pid,
        { words: [{ bytes: 64 }, 64] },
        1,
        { words: [0x1000, 64] },
        1,
        0,
      ]),
      ...atMonitors('process_vm_writev', (pid) => [
        pid,
        { words: [{ bytes: 64 }, 0] },
        1,
        { words: [0x1000, 0] },
        1,
        0,
      ]),
      way('memory', 'process_madvise', [0, { words: [0, 0] }, 1, 4, 0]),
      ...atMonitors('kcmp', (pid) => [pid, pid, 0, 0, 0]),
    ],
  },
];

const limits: Row[] = [
  {
    id: 'of-others',
    title: 'limits of the warden and the agent',
    target: 'prlimit64',
    ways: atMonitors('prlimit64', (pid) => [pid, 4, { words: [0, 0] }, 0]),
  },
  {
    id: 'own',
    title: 'its own limits',
    target: 'core files, descriptors',
    ways: [
      way('limit', 'prlimit64', [0, 4, { words: [-1, -1] }, 0]),
      way('limit', 'setrlimit', [4, { words: [-1, -1] }]),
      way('limit', 'prlimit64', ['$self', 7, { words: [65_536, 65_536] }, 0]),
    ],
    phases: BOTH,
  },
  {
    id: 'scheduling',
    title: 'processor and priority of the warden and the agent',
    target: 'processes {warden} and {agent}',
    ways: [
      ...atMonitors('sched_setaffinity', (pid) => [pid, 8, { hex: 'ffffffffffffffff' }]),
      ...atMonitors('sched_setscheduler', (pid) => [pid, 0, { ints: [0] }]),
      ...atMonitors('setpriority', (pid) => [0, pid, 0]),
      way('limit', 'sched_setattr', [0, { bytes: 56 }, 0]),
      way('limit', 'ioprio_set', [1, '$warden', 0]),
    ],
  },
  {
    id: 'threads',
    title: 'more threads than it may have',
    target: 'clone, 80 times',
    ways: [chain('limit', 'clone', [{ call: 'verb:threads', args: [80] }])],
    phases: START,
    own: {},
  },
];

/** A filter that lets everything pass: struct sock_fprog with one instruction. */
const passAll: Arg = { words: [1, { hex: '060000000000ff7f' }] };

const monitorHold: Row[] = [
  {
    id: 'second-filter',
    title: "a filter of its own in front of the warden's",
    target: 'seccomp, prctl',
    ways: [
      way('monitor', 'seccomp', [1, 0, passAll]),
      way('monitor', 'seccomp', [1, 8, passAll]),
      way('monitor', 'prctl', [22, 2, passAll]),
    ],
    phases: BOTH,
  },
  {
    id: 'dumpable',
    title: 'making itself debuggable, or outliving the warden',
    target: 'PR_SET_DUMPABLE, PR_SET_PTRACER, PR_SET_PDEATHSIG',
    ways: [
      way('monitor', 'prctl', [4, 1, 0, 0, 0]),
      way('monitor', 'prctl', [0x5961_6d61, -1, 0, 0, 0]),
      way('monitor', 'prctl', [1, 0, 0, 0, 0]),
    ],
    phases: BOTH,
  },
  {
    id: 'core-scheduling',
    title: "sharing a processor core's secrets (PR_SCHED_CORE)",
    target: 'process {warden}',
    ways: [way(['other', 'monitor', 'limit'], 'prctl', [62, 1, '$warden', 0, 0])],
  },
  {
    id: 'crash-handler',
    title: 'taking over its own crash signals',
    target: 'SIGSEGV',
    ways: [way('signal', 'rt_sigaction', [SIGSEGV, { bytes: 32 }, 0, 8])],
  },
];

export const LINUX_PROGRAMS = [
  ...group('programs', 'linux', BOTH, [...programs, clone3]),
  ...group('processes', 'linux', SEALED, processes),
  ...group('limits', 'linux', SEALED, limits),
  ...group('monitor', 'linux', SEALED, monitorHold),
];
