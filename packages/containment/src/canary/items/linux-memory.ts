/** Memory that could become code, attacks on the monitor itself, and the ways in which an engine may end. */
import type { Arg, Way } from '../types.ts';
import { chain, group, prepare, type Row, SEALED, START, way } from './build.ts';

const PAGE_BYTES = 4096;
const PROT_READ = 1;
const PROT_EXEC = 4;
const ANONYMOUS_PRIVATE = 0x22;
const ANONYMOUS_SHARED = 0x21;
const CWD = -100;

const page = prepare('mmap', [0, PAGE_BYTES, 3, ANONYMOUS_PRIVATE, -1, 0], 'page');
const memory: Row[] = [
  {
    id: 'code',
    title: 'new code in memory',
    target: 'PROT_EXEC',
    ways: [
      way('memory', 'mmap', [0, PAGE_BYTES, PROT_READ | PROT_EXEC, ANONYMOUS_PRIVATE, -1, 0]),
      way('memory', 'mmap', [0, PAGE_BYTES, 7, ANONYMOUS_SHARED, -1, 0]),
      chain('memory', 'mprotect', [
        page,
        { call: 'mprotect', args: ['$page', PAGE_BYTES, PROT_READ | PROT_EXEC] },
      ]),
      chain('memory', 'pkey_mprotect', [
        page,
        { call: 'pkey_mprotect', args: ['$page', PAGE_BYTES, PROT_READ | PROT_EXEC, -1] },
      ]),
    ],
  },
  {
    id: 'code-of-data',
    title: 'running what lies in its own slice',
    target: '{given}',
    ways: [
      chain('memory', 'mmap', [
        prepare('openat', [CWD, { text: '{given}' }, 0, 0], 'fd'),
        { call: 'mmap', args: [0, PAGE_BYTES, PROT_READ | PROT_EXEC, 2, '$fd', 0] },
      ]),
    ],
    phases: START,
  },
  {
    id: 'locked',
    title: 'memory that cannot be paged out',
    target: 'mlockall',
    ways: [way('memory', 'mlockall', [1]), way('memory', 'mlock', [0, 0])],
  },
  {
    id: 'others',
    title: 'moving pages of others, remapping files',
    target: 'process {warden}',
    ways: [
      way(['memory', 'monitor'], 'move_pages', ['$warden', 0, 0, 0, 0, 0]),
      way(['other', 'memory', 'monitor'], 'migrate_pages', ['$warden', 0, 0, 0]),
      way('memory', 'remap_file_pages', [0, 0, 0, 0, 0]),
      way('memory', 'mincore', [0, 0, 0]),
    ],
  },
];

const opens = (text: string, target: string): Way =>
  way('read', 'openat', [CWD, { text }, 0, 0], target);
const LONG_NAME_BYTES = 4000;
const BAD_POINTER = 8;
/** Beyond what a process can have: the last address of the lower half is 0x7fff_ffff_ffff. */
const KERNEL_POINTER = -4096;
const FLOOD_CALLS = 2000;
const STOP_AFTER = 50;

const monitor: Row[] = [
  {
    id: 'forged-report',
    title: "a report forged by a line break in a file's name",
    target: 'the log',
    ways: [
      opens('/x\n[warden] connect inet 192.0.2.1:443', '\\x0a[warden]'),
      opens('/x\nSandbox: nc(1) deny(1) network-outbound remote:*:443', '\\x0aSandbox:'),
      opens('/x"},{"kind":"read","target":"/y', '\\x22},'),
    ],
  },
  {
    id: 'escape-codes',
    title: "codes for the operator's terminal in a file's name",
    target: 'the terminal',
    ways: [
      opens('/\u001b]0;owned\u0007\u001b[2J', '\\x1b]0;owned\\x07'),
      opens('/\u202egnp.exe', '\\xe2\\x80\\xae'),
    ],
  },
  {
    id: 'long-names',
    title: 'very long names',
    target: `${LONG_NAME_BYTES} bytes`,
    ways: [
      opens(`/${'a'.repeat(LONG_NAME_BYTES)}`, 'aaaaaaaa'),
      opens(`/${'\u001b'.repeat(LONG_NAME_BYTES)}`, '\\x1b\\x1b'),
    ],
  },
  {
    id: 'bad-pointers',
    title: 'pointers and lengths that lead nowhere',
    target: 'the warden',
    ways: [
      way(['network', 'ipc'], 'connect', [0, 0, 16]),
      way(['network', 'ipc'], 'connect', [0, BAD_POINTER, 16]),
      way(['network', 'ipc'], 'connect', [0, KERNEL_POINTER, 128]),
      way(['network', 'ipc'], 'connect', [0, { bytes: 16 }, 0x7fff_ffff]),
      way(['network', 'ipc'], 'connect', [0, { hex: '0a00' }, 2]),
      way('network', 'sendto', [0, { hex: '4d4b01000001000000000000ff' }, 13, 0, 0, 0]),
      way('network', 'sendmsg', [0, BAD_POINTER, 0]),
      way('network', 'sendmmsg', [0, KERNEL_POINTER, 1, 0]),
      way('read', 'openat', [CWD, 0, 0, 0]),
      way('read', 'openat', [CWD, KERNEL_POINTER, 0, 0]),
      way('read', 'openat2', [CWD, { text: '/x' }, BAD_POINTER, 24]),
      way('exec', 'execve', [BAD_POINTER, BAD_POINTER, BAD_POINTER]),
      way('read', 'readlink', [{ text: '/x' }, BAD_POINTER, -1]),
      way('read', 'statx', [CWD, { text: '/x' }, 0, 0, BAD_POINTER]),
    ],
  },
  {
    id: 'flood',
    title: 'a flood of attempts: none goes uncounted',
    target: `${FLOOD_CALLS} calls`,
    ways: [
      chain('read', 'openat', [
        { call: 'verb:flood', args: [FLOOD_CALLS, { text: '/minikeep-flood' }] },
      ]),
    ],
    own: { limits: { violations_max: 1_000_000, reports_per_kind_max: 5 }, counted: FLOOD_CALLS },
  },
  {
    id: 'flood-stopped',
    title: 'a flood beyond the limit: the engine is stopped',
    target: `${STOP_AFTER} calls`,
    ways: [
      chain('read', 'openat', [
        { call: 'verb:flood', args: [FLOOD_CALLS, { text: '/minikeep-flood' }] },
      ]),
    ],
    own: { limits: { violations_max: STOP_AFTER }, ends: { stopped: true }, counted: STOP_AFTER },
  },
];

/** mov eax, 20 (getpid of i386); int 0x80; ret */
const INT80: Arg = { hex: 'b814000000cd80c3' };
const X32_GETPID = 0x4000_0000 + 39;

const crash: Row[] = [
  {
    id: 'segmentation-fault',
    title: 'a crash: reported, no core file',
    target: 'SIGSEGV',
    // Node catches it and aborts, where the engine has no handler of its own.
    ways: [chain('crash', ['SIGSEGV', 'SIGABRT'], [{ call: 'verb:crash' }])],
    own: { ends: { signals: ['SIGSEGV', 'SIGABRT'], codes: [11] } },
  },
  {
    id: 'abort',
    title: 'an abort: reported, no core file',
    target: 'SIGABRT',
    ways: [chain('crash', 'SIGABRT', [{ call: 'verb:abort' }])],
    own: { ends: { signals: ['SIGABRT'] } },
  },
  {
    id: 'x32',
    title: 'system calls by the x32 numbers',
    target: 'getpid of x32',
    ways: [chain('other', 'SIGSYS', [{ call: `nr:${X32_GETPID}` }])],
    own: { ends: { signals: ['SIGSYS'] } },
  },
  {
    id: 'int80',
    title: 'system calls of 32-bit programs (int 0x80)',
    target: 'getpid of i386',
    ways: [chain('other', 'SIGSYS', [{ call: 'verb:code', args: [INT80, 8] }])],
    phases: START,
    own: { ends: { signals: ['SIGSYS'] } },
  },
];

export const LINUX_MEMORY = [
  ...group('memory', 'linux', SEALED, memory),
  ...group('monitor', 'linux', SEALED, monitor),
  ...group('crash', 'linux', SEALED, crash),
];

/**
 * Refused by the kernel without a word, because nothing is asked that a report could be made of, or only looked at.
 * They must hold; they can't be reported.
 */
const inspected: Row[] = [
  {
    id: 'descriptors',
    title: 'no descriptor is inherited but its pipes',
    target: 'descriptors 0 to 255',
    ways: [chain([], [], [{ call: 'verb:descriptors' }])],
    phases: START,
    unreportable: 'looking at its own descriptors is allowed while it loads',
  },
  {
    id: 'many-descriptors',
    title: 'descriptors are limited',
    target: '300 pipes',
    ways: [chain([], [], [{ call: 'verb:pipes', args: [300] }])],
    phases: START,
    own: {},
    unreportable: 'the kernel enforces the limit without asking the warden',
  },
  {
    id: 'descriptor-writes',
    title: 'the descriptor of its slice cannot be written',
    target: '{given}',
    ways: [
      chain(
        [],
        [],
        [
          prepare('openat', [CWD, { text: '{given}' }, 0, 0], 'fd'),
          { call: 'write', args: ['$fd', { text: 'x' }, 1] },
        ],
      ),
    ],
    phases: START,
    unreportable: 'write is allowed, and the descriptor is read-only',
  },
  {
    id: 'mapping-made-writable',
    title: 'the mapping of its slice cannot be made writable',
    target: '{given}',
    ways: [
      chain(
        [],
        [],
        [
          prepare('openat', [CWD, { text: '{given}' }, 0, 0], 'fd'),
          prepare('mmap', [0, PAGE_BYTES, PROT_READ, 1, '$fd', 0], 'map'),
          { call: 'mprotect', args: ['$map', PAGE_BYTES, 3] },
        ],
      ),
    ],
    phases: START,
    unreportable: 'mprotect without PROT_EXEC is allowed, and the descriptor is read-only',
  },
];

export const LINUX_INSPECTED = group('limits', 'linux', START, inspected);
