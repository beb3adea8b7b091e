/** Writing anywhere in any way, and reading or asking about what is not the engine's. */
import type { Arg, Step, Way } from '../types.ts';
import { BOTH, chain, group, prepare, type Row, SEALED, START, way } from './build.ts';

const CWD = -100;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;
const O_TMPFILE = 0o20200000;
const NEW = O_WRONLY | O_CREAT;
const MODE = 0o666;
const AT_SYMLINK_NOFOLLOW = 0x100;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const PAGE_BYTES = 4096;
const FILE_NAME = 'minikeep-canary-{nonce}';

const path = (text: string): Arg => ({ text });
const creates = (folder: string): Way =>
  way('write', 'openat', [CWD, path(`${folder}/${FILE_NAME}`), NEW, MODE], `${folder}/`);

const place = (id: string, title: string, folder: string): Row => ({
  id,
  title: `a file in ${title}`,
  target: `${folder}/${FILE_NAME}`,
  ways: [creates(folder)],
  phases: BOTH,
});

/** The allowed file, opened as an engine opens its slice: only before the seal. */
const given: Step = prepare('openat', [CWD, path('{given}'), 0, 0], 'fd');

const VICTIM = '{folder}/victim';
const NEXT = `{folder}/${FILE_NAME}`;

const writing: Row[] = [
  place('home', 'the home directory', '{home}'),
  place('temp', 'the temporary directory', '{temp}'),
  place('var-tmp', '/var/tmp', '/var/tmp'),
  place('shared-memory', '/dev/shm', '/dev/shm'),
  place('cache', 'the cache of slices', '{cache}'),
  place('open-folder', 'a folder that everyone may write', '{folder}'),
  {
    id: 'existing',
    title: 'a file of others that everyone may write',
    target: VICTIM,
    ways: [
      way('write', 'openat', [CWD, path(VICTIM), O_RDWR], VICTIM),
      way('write', 'open', [path(VICTIM), O_WRONLY | O_TRUNC], VICTIM),
      way('write', 'creat', [path(VICTIM), MODE], VICTIM),
      way('write', 'truncate', [path(VICTIM), 0], VICTIM),
    ],
    phases: BOTH,
  },
  {
    id: 'own-slice',
    title: 'the very file that it was given to read',
    target: '{given}',
    ways: [
      way('write', 'openat', [CWD, path('{given}'), O_RDWR], '{given}'),
      way('write', 'openat', [CWD, path('{given}'), O_TRUNC], '{given}'),
    ],
    phases: BOTH,
  },
  {
    id: 'unnamed',
    title: 'a file without a name (O_TMPFILE)',
    target: '{folder}',
    ways: [way('write', 'openat', [CWD, path('{folder}'), O_TMPFILE | O_RDWR, MODE], '{folder}')],
  },
  {
    id: 'symlink',
    title: 'through a symbolic link',
    target: `{link} to ${VICTIM}`,
    ways: [
      way('write', 'openat', [CWD, path('{link}'), O_RDWR], '{link}'),
      way('write', 'symlink', [path(VICTIM), path(NEXT)], NEXT),
      way('write', 'symlinkat', [path(VICTIM), CWD, path(NEXT)], NEXT),
    ],
  },
  {
    id: 'hardlink',
    title: 'through a hard link',
    target: `${VICTIM} as ${NEXT}`,
    ways: [
      way('write', 'link', [path(VICTIM), path(NEXT)], VICTIM),
      way('write', 'linkat', [CWD, path(VICTIM), CWD, path(NEXT), 0], VICTIM),
    ],
  },
  {
    id: 'names',
    title: 'making, moving and removing names',
    target: '{folder}',
    ways: [
      way('write', 'mkdir', [path(NEXT), 0o777], NEXT),
      way('write', 'mkdirat', [CWD, path(NEXT), 0o777], NEXT),
      way('write', 'rmdir', [path('{folder}')], '{folder}'),
      way('write', 'unlink', [path(VICTIM)], VICTIM),
      way('write', 'unlinkat', [CWD, path(VICTIM), 0], VICTIM),
      way('write', 'rename', [path(VICTIM), path(NEXT)], VICTIM),
      way('write', 'renameat2', [CWD, path(VICTIM), CWD, path(NEXT), 0], VICTIM),
      way('write', 'mknod', [path(NEXT), 0o010666, 0], NEXT),
      way('write', 'mknodat', [CWD, path(NEXT), 0o010666, 0], NEXT),
    ],
    phases: BOTH,
  },
  {
    id: 'metadata',
    title: 'owner, mode, times and attributes',
    target: VICTIM,
    ways: [
      way('write', 'chmod', [path(VICTIM), 0o600], VICTIM),
      way('write', 'fchmodat', [CWD, path(VICTIM), 0o600], VICTIM),
      way('write', 'chown', [path(VICTIM), -1, -1], VICTIM),
      way('write', 'fchownat', [CWD, path(VICTIM), -1, -1, 0], VICTIM),
      way('write', 'utimensat', [CWD, path(VICTIM), 0, AT_SYMLINK_NOFOLLOW], VICTIM),
      way('write', 'utime', [path(VICTIM), 0], VICTIM),
      way('write', 'utimes', [path(VICTIM), 0], VICTIM),
      way('write', 'setxattr', [path(VICTIM), path('user.canary'), path('1'), 1, 0], VICTIM),
      way('write', 'lsetxattr', [path(VICTIM), path('user.canary'), path('1'), 1, 0], VICTIM),
      way('write', 'removexattr', [path(VICTIM), path('user.canary')], VICTIM),
    ],
  },
  {
    id: 'shared-mapping',
    title: 'a writable shared mapping of a read-only file',
    target: '{given}',
    ways: [
      chain('memory', 'mmap', [
        given,
        { call: 'mmap', args: [0, PAGE_BYTES, PROT_READ_WRITE, MAP_SHARED, '$fd', 0] },
      ]),
    ],
    phases: START,
  },
  {
    id: 'by-descriptor',
    title: 'through the read-only descriptor of its slice',
    target: '{given}',
    ways: [
      ...(
        [
          ['ftruncate', [0]],
          ['fallocate', [0, 0, 8]],
          ['fchmod', [0o600]],
          ['fchown', [-1, -1]],
          ['fsetxattr', [path('user.canary'), path('1'), 1, 0]],
          ['pwrite64', [path('x'), 1, 0]],
          ['pwritev', [{ words: [path('x'), 1] }, 1, 0, 0]],
          ['flock', [2]],
          ['sync_file_range', [0, 0, 0]],
        ] as const
      ).map(([call, args]) => chain('write', call, [given, { call, args: ['$fd', ...args] }])),
      chain(
        ['write', 'other'],
        'fcntl',
        [given, { call: 'fcntl', args: ['$fd', 1024, 1] }],
        'command 1024',
      ),
      // FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FICLONE: bits and blocks on the disk.
      ...[0x4008_6602, 0x401c_5820, 0x4004_9409].map((request) =>
        chain(
          ['write', 'other'],
          'ioctl',
          [given, { call: 'ioctl', args: ['$fd', request, { bytes: 32 }] }],
          `0x${request.toString(16)}`,
        ),
      ),
    ],
    phases: START,
  },
  {
    id: 'copy',
    title: 'copying between descriptors inside the kernel',
    target: 'standard input to standard output',
    ways: [
      way('write', 'sendfile', [1, 0, 0, 1]),
      way('write', 'splice', [0, 0, 1, 0, 1, 2]),
      way('write', 'tee', [0, 1, 1, 2]),
      way('write', 'vmsplice', [1, { words: [path('x'), 1] }, 1, 2]),
      way('write', 'copy_file_range', [0, 0, 1, 0, 1, 0]),
    ],
  },
  {
    id: 'sync',
    title: 'flushing disks, which others can feel',
    target: 'sync, fsync',
    ways: [
      way(['other', 'write'], 'sync'),
      way('write', 'fsync', [1]),
      way('write', 'syncfs', [1]),
    ],
  },
];

const opens = (file: string, flags = 0): Way =>
  way('read', 'openat', [CWD, path(file), flags], file);
const reads = (id: string, title: string, ...files: string[]): Row => ({
  id,
  title,
  target: files.join(', '),
  ways: files.map((file) => opens(file)),
});

const reading: Row[] = [
  reads('node-key', "the node's private key", '{node_key}'),
  reads('other-slice', 'a slice of another engine', '{slice}'),
  reads(
    'user-file',
    "the user's files",
    '{user_file}',
    '{home}/.ssh/id_ed25519',
    '{home}/.bash_history',
  ),
  reads('accounts', "the machine's accounts", '/etc/passwd', '/etc/shadow'),
  reads(
    'names',
    "the machine's names and resolver",
    '/etc/hosts',
    '/etc/resolv.conf',
    '/etc/hostname',
  ),
  reads(
    'agent-process',
    "the agent's process: environment, memory, descriptors",
    '/proc/{agent}/environ',
    '/proc/{agent}/cmdline',
    '/proc/{agent}/maps',
    '/proc/{agent}/mem',
    '/proc/{agent}/fd/0',
    '/proc/{agent}/root/etc/passwd',
  ),
  reads(
    'warden-process',
    "the warden's process",
    '/proc/{warden}/environ',
    '/proc/{warden}/mem',
    '/proc/{warden}/fd/0',
  ),
  reads(
    'other-processes',
    'other processes and its own entries',
    '/proc/1/environ',
    '/proc/self/environ',
    '/proc/self/mem',
    '/proc/self/mounts',
    '/proc/self/root/etc/passwd',
    '/proc/thread-self/../{agent}/environ',
  ),
  reads(
    'machine',
    "the machine's network, kernel and hardware",
    '/proc/net/tcp',
    '/proc/net/route',
    '/proc/kallsyms',
    '/proc/kmsg',
    '/sys/class/dmi/id/product_uuid',
    '/sys/class/net/lo/address',
    '/etc/machine-id',
  ),
  reads(
    'devices',
    'devices',
    '/dev/mem',
    '/dev/kmsg',
    '/dev/tty',
    '/dev/ptmx',
    '/dev/fuse',
    '/dev/net/tun',
    '/dev/vhost-net',
  ),
  {
    id: 'folders',
    title: 'what lies in a folder',
    target: '{home}, {secrets}',
    ways: [
      opens('{home}', O_DIRECTORY),
      opens('{secrets}', O_DIRECTORY),
      opens('/', O_DIRECTORY | O_PATH),
    ],
  },
  {
    id: 'around',
    title: 'around the list: dots, links, other calls',
    target: '{node_key}',
    ways: [
      opens('{given_folder}/../secrets/node.key'),
      opens('{given_folder}/./link'),
      opens('/proc/self/cwd{node_key}'),
      way('read', 'open', [path('{node_key}'), 0], '{node_key}'),
      way('read', 'openat2', [CWD, path('{node_key}'), { words: [0, 0, 0] }, 24], '{node_key}'),
      way(
        'read',
        'name_to_handle_at',
        [CWD, path('{node_key}'), { ints: [128, 0] }, { bytes: 8 }, 0],
        '{node_key}',
      ),
      way('read', 'open_by_handle_at', [-100, { ints: [8, 1, 0, 0] }, 0]),
      way('read', 'chdir', [path('{secrets}')], '{secrets}'),
    ],
  },
  {
    id: 'existence',
    title: 'whether a file is there, how large, whose',
    target: '{node_key}',
    ways: [
      way('read', 'stat', [path('{node_key}'), { bytes: 256 }], '{node_key}'),
      way('read', 'lstat', [path('{node_key}'), { bytes: 256 }], '{node_key}'),
      way('read', 'newfstatat', [CWD, path('{node_key}'), { bytes: 256 }, 0], '{node_key}'),
      way('read', 'statx', [CWD, path('{node_key}'), 0, 0x7ff, { bytes: 256 }], '{node_key}'),
      way('read', 'access', [path('{node_key}'), 0], '{node_key}'),
      way('read', 'faccessat', [CWD, path('{node_key}'), 0], '{node_key}'),
      way('read', 'faccessat2', [CWD, path('{node_key}'), 0, 0], '{node_key}'),
      way('read', 'readlink', [path('{link}'), { bytes: 256 }, 256], '{link}'),
      way(
        'read',
        'readlinkat',
        [CWD, path('/proc/{agent}/exe'), { bytes: 256 }, 256],
        '/proc/{agent}/exe',
      ),
      way('read', 'statfs', [path('{node_key}'), { bytes: 256 }], '{node_key}'),
      way(
        'read',
        'getxattr',
        [path('{node_key}'), path('user.x'), { bytes: 64 }, 64],
        '{node_key}',
      ),
      way('read', 'listxattr', [path('{node_key}'), { bytes: 64 }, 64], '{node_key}'),
    ],
  },
  {
    id: 'after-seal',
    title: 'even its own slice, once sealed',
    target: '{given}',
    ways: [opens('{given}')],
    phases: SEALED,
  },
];

export const LINUX_FILES = [
  ...group('writing', 'linux', SEALED, writing),
  ...group('reading', 'linux', BOTH, reading),
];
