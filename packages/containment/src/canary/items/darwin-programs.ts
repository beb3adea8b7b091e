/** Programs, processes and services of macOS: what would act for the engine, outside of its sandbox. */
import type { Arg } from '../types.ts';
import { BOTH, chain, group, type Row, SEALED, START } from './build.ts';

const SHELL = '/bin/sh';
const SIGCONT = 19;
const PT_ATTACHEXC = 14;
const IPC_CREAT = 0o1000;
const O_CREAT_RDWR = 0x202;
const MODE = 0o600;
const argv = (...words: string[]): Arg => ({ words: [...words.map((text) => ({ text })), 0] });
const EXEC = ['process-exec', 'process-exec*', 'process-exec-interpreter'];
/** The C library forks first, or asks the kernel for both at once. */
const SPAWN = [...EXEC, 'process-fork'];

const exec = (path: string, ...args: string[]) =>
  chain('exec', EXEC, [{ call: 'execve', args: [{ text: path }, argv(path, ...args), 0] }], path);

const programs: Row[] = [
  { id: 'shell', title: 'becoming a shell', target: SHELL, ways: [exec(SHELL, '-c', 'exit 42')] },
  {
    id: 'open',
    title: 'letting the desktop open something',
    target: '/usr/bin/open',
    ways: [
      exec('/usr/bin/open', '-g', 'https://192.0.2.1/'),
      exec('/usr/bin/osascript', '-e', '1'),
    ],
  },
  {
    id: 'posix-spawn',
    title: 'a program started by the C library',
    target: SHELL,
    ways: [
      chain('exec', SPAWN, [
        { call: 'verb:spawn', args: [{ text: SHELL }, argv(SHELL, '-c', 'exit 42')] },
      ]),
    ],
  },
  {
    id: 'fork',
    title: 'a second process',
    target: 'fork',
    ways: [chain('exec', 'process-fork', [{ call: 'fork' }])],
  },
];

const MONITORS = ['$warden', '$agent'] as const;
const processes: Row[] = [
  {
    id: 'kill',
    title: 'signals to the warden and the agent',
    target: 'processes {warden} and {agent}',
    ways: MONITORS.map((pid) => chain('signal', [], [{ call: 'kill', args: [pid, SIGCONT] }])),
  },
  {
    id: 'debugger',
    title: 'debugging the warden or the agent',
    target: 'processes {warden} and {agent}',
    ways: MONITORS.map((pid) =>
      chain([], [], [{ call: 'ptrace', args: [PT_ATTACHEXC, pid, 0, 0] }]),
    ),
    unreportable: 'which right is missing first, and whether that is logged, was never seen',
  },
];

/** Services that act outside: each was used to leave a sandbox by somebody. */
const SERVICES: readonly (readonly [id: string, name: string, title: string])[] = [
  ['launch', 'com.apple.coreservices.launchservicesd', 'programs started by the desktop'],
  ['launch-xpc', 'com.apple.launchservicesd', 'programs started by the launch service'],
  ['quarantine', 'com.apple.coreservices.quarantine-resolver', 'files let out of quarantine'],
  ['apple-events', 'com.apple.coreservices.appleevents', 'Apple events to other programs'],
  ['pasteboard', 'com.apple.pasteboard.1', 'the pasteboard'],
  ['url-session', 'com.apple.nsurlsessiond', 'downloads by the system'],
  ['network-agent', 'com.apple.cfnetwork.cfnetworkagent', 'proxies and cookies of the system'],
  ['dns', 'com.apple.dnssd.service', 'names looked up by the system'],
  ['keychain', 'com.apple.SecurityServer', 'the keychain'],
  ['window-server', 'com.apple.windowserver.active', 'the screen'],
];
const services: Row[] = SERVICES.map(([id, name, title]) => ({
  id: `mach-${id}`,
  title,
  target: name,
  ways: [chain('ipc', 'mach-lookup', [{ call: 'verb:mach', args: [{ text: name }] }], name)],
}));

const shared: Row[] = [
  {
    id: 'posix',
    title: 'shared memory and semaphores by name',
    target: '/canary-{nonce}',
    ways: [
      chain('ipc', [], [{ call: 'shm_open', args: [{ text: '/c-{nonce}' }, O_CREAT_RDWR, MODE] }]),
      chain(
        'ipc',
        [],
        [{ call: 'sem_open', args: [{ text: '/s-{nonce}' }, O_CREAT_RDWR, MODE, 1] }],
      ),
    ],
  },
  {
    id: 'system-v',
    title: 'System V shared memory, semaphores, queues',
    target: 'shmget, semget, msgget',
    ways: [
      chain('ipc', [], [{ call: 'shmget', args: [0, 4096, IPC_CREAT | MODE] }]),
      chain('ipc', [], [{ call: 'semget', args: [0, 1, IPC_CREAT | MODE] }]),
      chain('ipc', [], [{ call: 'msgget', args: [0, IPC_CREAT | MODE] }]),
    ],
  },
];

/** Seatbelt is asked for names that are on no list. */
const kernel: Row[] = [
  {
    id: 'sysctl',
    title: "the machine's name and its last start",
    target: 'kern.hostname, kern.boottime',
    ways: ['kern.hostname', 'kern.boottime'].map((name) =>
      chain(
        [],
        ['sysctl-read'],
        [
          {
            call: 'sysctlbyname',
            args: [{ text: name }, { bytes: 256 }, { words: [256] }, 0, 0],
          },
        ],
        name,
      ),
    ),
  },
];

const memory: Row[] = [
  {
    id: 'code',
    title: 'no new code in memory',
    target: 'PROT_EXEC',
    // arm64 `ret`.
    ways: [chain([], [], [{ call: 'verb:code', args: [{ hex: 'c0035fd6' }, 4] }])],
    unreportable: 'a page may be refused by the processor rules of Apple Silicon before Seatbelt',
  },
];

const descriptors: Row[] = [
  {
    id: 'descriptors',
    title: 'nothing inherited but its pipes',
    target: 'descriptors 0 to 255',
    ways: [chain([], [], [{ call: 'verb:descriptors' }])],
    unreportable: 'nothing is asked of the system that could be refused',
    phases: START,
  },
  {
    id: 'many-descriptors',
    title: 'no more than 256 descriptors',
    target: 'pipe',
    ways: [chain([], [], [{ call: 'verb:pipes', args: [200] }])],
    unreportable: 'a limit of the process refuses, and asks no sandbox',
  },
];

const crashes: Row[] = [
  {
    id: 'segmentation-fault',
    title: 'a crash',
    target: 'SIGSEGV',
    ways: [chain('crash', ['SIGSEGV', 'SIGBUS'], [{ call: 'verb:crash' }])],
    own: { ends: { signals: ['SIGSEGV', 'SIGBUS'] } },
  },
  {
    id: 'abort',
    title: 'an abort',
    target: 'SIGABRT',
    ways: [chain('crash', 'SIGABRT', [{ call: 'verb:abort' }])],
    own: { ends: { signals: ['SIGABRT'] } },
  },
];

export const DARWIN_PROGRAMS = [
  ...group('programs', 'darwin', BOTH, programs),
  ...group('processes', 'darwin', SEALED, processes),
  ...group('ipc', 'darwin', BOTH, [...services, ...shared]),
  ...group('kernel', 'darwin', SEALED, kernel),
  ...group('memory', 'darwin', SEALED, memory),
  ...group('limits', 'darwin', SEALED, descriptors),
  ...group('crash', 'darwin', SEALED, crashes),
];
