/**
 * Files of macOS: reading what belongs to others, and leaving anything behind. A refusal is reported with the path;
 * the exact operation is expected only where a recorded line shows it.
 */
import type { Arg, Way } from '../types.ts';
import { BOTH, chain, group, prepare, type Row, SEALED } from './build.ts';

const O_RDONLY = 0;
const O_WRONLY_CREAT = 0x201;
const O_RDWR = 2;
const MODE = 0o600;
const PAGE_BYTES = 16_384;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

const reads = (path: string, expected = path): Way =>
  chain(
    'read',
    ['file-read-data', 'file-read-metadata', 'file-read*'],
    [{ call: 'open', args: [{ text: path }, O_RDONLY, 0] }],
    expected,
  );
const writes = (path: string): Way =>
  chain(
    'write',
    [],
    [{ call: 'open', args: [{ text: path }, O_WRONLY_CREAT, MODE] }],
    'canary-{nonce}',
  );
const changes = (call: string, args: readonly Arg[], target: string): Way =>
  chain('write', [], [{ call, args }], target);

const reading: Row[] = [
  { id: 'node-key', title: "the node's key", target: '{node_key}', ways: [reads('{node_key}')] },
  { id: 'other-slice', title: 'another slice', target: '{slice}', ways: [reads('{slice}')] },
  {
    id: 'user-file',
    title: "a user's file, also by the Data volume's own path",
    target: '{user_file}',
    ways: [reads('{user_file}'), reads('/System/Volumes/Data{user_file}', '{user_file}')],
  },
  {
    id: 'accounts',
    title: "the machine's accounts and hosts",
    target: '/private/etc',
    ways: [reads('/private/etc/passwd'), reads('/private/etc/hosts')],
  },
  {
    id: 'existence',
    title: 'whether a file exists',
    target: '{user_file}',
    ways: [
      chain('read', [], [{ call: 'access', args: [{ text: '{user_file}' }, 0] }], '{user_file}'),
    ],
  },
  {
    id: 'link',
    title: 'a file through a link in an allowed folder',
    target: '{link}',
    ways: [chain('read', [], [{ call: 'open', args: [{ text: '{link}' }, O_RDONLY, 0] }])],
  },
  {
    id: 'attributes',
    title: "a file's extended attributes",
    target: '{user_file}',
    ways: [
      chain(
        'read',
        [],
        [{ call: 'listxattr', args: [{ text: '{user_file}' }, { bytes: 256 }, 256, 0] }],
        '{user_file}',
      ),
    ],
  },
];

const writing: Row[] = [
  {
    id: 'new',
    title: 'new files at home, in the temporary folder, in the cache',
    target: '{home}, {folder}, {cache}',
    ways: [
      writes('{home}/canary-{nonce}'),
      writes('{folder}/canary-{nonce}'),
      writes('{cache}/canary-{nonce}'),
      writes('/private/tmp/canary-{nonce}'),
    ],
  },
  {
    id: 'own-slice',
    title: 'its own slice',
    target: '{given}',
    ways: [
      changes('open', [{ text: '{given}' }, O_RDWR, 0], '{given}'),
      changes('truncate', [{ text: '{given}' }, 0], '{given}'),
      changes('chmod', [{ text: '{given}' }, MODE], '{given}'),
    ],
  },
  {
    id: 'symlink',
    title: 'links of its own, and writing through a link',
    target: '{folder}',
    ways: [
      changes(
        'symlink',
        [{ text: '/private/etc/hosts' }, { text: '{folder}/canary-{nonce}' }],
        'canary-{nonce}',
      ),
      chain('write', [], [{ call: 'open', args: [{ text: '{link}' }, O_RDWR, 0] }]),
    ],
  },
  {
    id: 'hardlink',
    title: 'a second name for its slice, a clone of it',
    target: '{given}',
    ways: [
      chain(
        'write',
        [],
        [{ call: 'link', args: [{ text: '{given}' }, { text: '{folder}/canary-{nonce}' }] }],
      ),
      chain(
        'write',
        [],
        [
          {
            call: 'clonefile',
            args: [{ text: '{given}' }, { text: '{folder}/canary-{nonce}' }, 0],
          },
        ],
      ),
    ],
  },
  {
    id: 'names',
    title: 'folders, queues, other names, and removing files',
    target: '{folder}',
    ways: [
      changes('mkdir', [{ text: '{folder}/canary-{nonce}' }, MODE], 'canary-{nonce}'),
      changes('mkfifo', [{ text: '{folder}/canary-{nonce}' }, MODE], 'canary-{nonce}'),
      chain(
        'write',
        [],
        [{ call: 'rename', args: [{ text: '{given}' }, { text: '{folder}/canary-{nonce}' }] }],
      ),
      changes('unlink', [{ text: '{folder}/victim' }], 'victim'),
    ],
  },
  {
    id: 'attributes',
    title: 'extended attributes, flags and times',
    target: '{given}',
    ways: [
      changes(
        'setxattr',
        [{ text: '{given}' }, { text: 'user.canary' }, { text: 'x' }, 1, 0, 0],
        '{given}',
      ),
      changes('chflags', [{ text: '{given}' }, 0x8000], '{given}'),
      changes('utimes', [{ text: '{given}' }, 0], '{given}'),
    ],
  },
];

/** The kernel refuses before the sandbox is asked: the descriptor was opened for reading. */
const mapping: Row = {
  id: 'mapping',
  title: 'no writable mapping of its read-only slice',
  target: '{given}',
  ways: [
    chain(
      [],
      [],
      [
        prepare('open', [{ text: '{given}' }, O_RDONLY, 0], 'fd'),
        { call: 'mmap', args: [0, PAGE_BYTES, PROT_READ_WRITE, MAP_SHARED, '$fd', 0] },
      ],
    ),
  ],
  phases: SEALED,
  unreportable: 'the kernel refuses by the descriptor, and asks no sandbox',
};

export const DARWIN_FILES = [
  ...group('reading', 'darwin', SEALED, reading),
  ...group('writing', 'darwin', BOTH, [...writing, mapping]),
];
