/**
 * The Seatbelt profile of one engine: exact files, everything else denied, each denial carrying a tag that no other
 * process knows. Sources: design notes on Seatbelt (read in public sources, never run here) and their corrections:
 * last rule wins, so the denies that matter stand after `system.sb`, whose contents Apple changes.
 */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';

export interface ProfileOptions {
  /** Random per engine: any process can log text. */
  readonly tag: string;
  /** Node's program; canonical, as all paths here. */
  readonly program: string;
  /** Exact files that may be read. */
  readonly files: readonly string[];
  /** True for an engine that computes: it reaches the GPU and its compiler. A text engine reaches neither. */
  readonly gpu: boolean;
}

const TAG = /^[A-Za-z0-9-]{16,64}$/;
const PATH_CHARACTERS_MAX = 1024;
const FILES_MAX = 4096;
const COMPILER_SERVICE = 'com.apple.MTLCompilerService';
/** What a GPU engine must reach; four independent findings agree. */
const GPU_CLIENTS = ['AGXDeviceUserClient', 'IOSurfaceRootUserClient'];
/** Machine facts that Node and ggml ask for; the rest shows serial data and process lists. */
const SYSCTLS = [
  'hw.',
  'kern.ostype',
  'kern.osrelease',
  'kern.osversion',
  'kern.osproductversion',
  'kern.version',
  'machdep.cpu.',
];
/** /System as a whole would open users' files by /System/Volumes/Data. */
const SYSTEM_FOLDERS = [
  '/System/Library',
  '/System/Cryptexes',
  '/System/Volumes/Preboot/Cryptexes/OS',
  '/usr/lib',
  '/private/var/db/dyld',
];
/** What libSystem and ICU open in every process; nothing of a user's. */
const SYSTEM_FILES = ['/', '/dev/null', '/dev/random', '/dev/urandom'];
/** Links that paths of ours may begin with: followed only when they may be looked at. */
const SYSTEM_LINKS = ['/var', '/tmp', '/etc'];
const LIBRARY = /\.(dylib|so|node)$/;
const ICU_FOLDER = '/usr/share/icu';
/** Denied after the import, whatever it allowed. */
const DENIED = [
  'network*',
  'file-write*',
  'file-ioctl',
  'file-link',
  'file-clone',
  'system-socket',
  'system-fsctl',
  'process-fork',
  'ipc-posix-shm*',
  'ipc-posix-sem*',
  'ipc-sysv*',
  'mach-register',
  'job-creation',
  'appleevent-send',
  'user-preference*',
  'iokit-set-properties',
  'dynamic-code-generation',
];

const hasControl = (text: string): boolean => text.split('').some((c) => c < ' ' || c === '\u007f');

/** A Scheme string; refuses what could end it. */
function quoted(text: string): string {
  if (text.length === 0 || text.length > PATH_CHARACTERS_MAX || hasControl(text))
    throw new MinikeepError(
      'sandbox.bad_path',
      `${JSON.stringify(text.slice(0, 200))} can't stand in a sandbox profile`,
      {
        next: 'Use a path without control characters, of at most 1,024 characters.',
      },
    );
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** What the system itself says of a file that is there (elsewhere than on macOS `/tmp` is a folder like any other). */
function isItsOwnRealPath(file: string): boolean {
  try {
    return realpathSync(file) === file;
  } catch {
    return false;
  }
}

/** `/var`, `/tmp` and `/etc` are links on macOS, which Seatbelt does not follow. */
function canonical(file: string): string {
  const parts = file.split('/');
  if (
    !file.startsWith('/') ||
    parts.includes('..') ||
    parts.includes('.') ||
    (/^\/(var|tmp|etc)(\/|$)/.test(file) && !isItsOwnRealPath(file))
  )
    throw new MinikeepError('sandbox.path_not_canonical', `${file} is not a canonical path`, {
      next: 'Resolve links first: /private/var, not /var.',
    });
  return quoted(file);
}

/** Node asks of each folder above its script whether it is a link; that it exists is all that this tells. */
function foldersAbove(files: readonly string[]): string[] {
  const folders = new Set<string>();
  for (const file of files)
    for (let at = path.dirname(file); at !== '/' && at !== '.'; at = path.dirname(at))
      folders.add(at);
  return [...folders];
}

/** The profile's text. Throws `sandbox.bad_path`, `sandbox.path_not_canonical`, `sandbox.bad_tag`, `sandbox.too_many_files`. */
export function seatbeltProfile({ tag, program, files, gpu }: ProfileOptions): string {
  if (!TAG.test(tag))
    throw new MinikeepError(
      'sandbox.bad_tag',
      'the tag of a sandbox profile must be 16 to 64 letters, digits or dashes',
      {
        next: 'This is a fault in minikeep: report it.',
      },
    );
  if (files.length > FILES_MAX)
    throw new MinikeepError('sandbox.too_many_files', `${files.length} files for one engine`, {
      next: 'Load a model with fewer parts.',
    });
  const deny = (what: string, filter = ''): string =>
    `(deny ${what}${filter} (with message ${quoted(tag)}))`;
  const literals = [...new Set([program, ...files])].map(
    (file) => `  (literal ${canonical(file)})`,
  );
  const folders = [...SYSTEM_FOLDERS, ICU_FOLDER].map((folder) => `  (subpath ${quoted(folder)})`);
  const system = SYSTEM_FILES.map((file) => `  (literal ${quoted(file)})`);
  const readable = [...system, ...folders, ...literals].join('\n');
  const above = [...SYSTEM_LINKS, ...foldersAbove([program, ...files])].map(
    (file) => `  (literal ${quoted(file)})`,
  );
  const code = [program, ...files.filter((file) => LIBRARY.test(file))].map(
    (file) => `  (literal ${quoted(file)})`,
  );
  const services = gpu
    ? [
        `(allow mach-lookup (xpc-service-name ${quoted(COMPILER_SERVICE)}) (global-name ${quoted(COMPILER_SERVICE)}))`,
      ]
    : [];
  const clients = gpu
    ? [
        `(allow iokit-open ${GPU_CLIENTS.map((name) => `(iokit-user-client-class ${quoted(name)})`).join(' ')})`,
      ]
    : [];
  return [
    '(version 1)',
    deny('default'),
    '(import "system.sb")',
    deny('mach-lookup'),
    ...services,
    deny('iokit-open*'),
    ...clients,
    deny('sysctl*'),
    `(allow sysctl-read ${SYSCTLS.map((name) => (name.endsWith('.') ? `(sysctl-name-prefix ${quoted(name)})` : `(sysctl-name ${quoted(name)})`)).join(' ')})`,
    deny('file-read*'),
    `(allow file-read-data file-read-metadata\n${readable})`,
    `(allow file-read-metadata\n${above.join('\n')})`,
    deny('file-map-executable'),
    `(allow file-map-executable\n${[...folders, ...code].join('\n')})`,
    deny('process-exec*'),
    `(allow process-exec* (literal ${canonical(program)}))`,
    deny('signal', ' (target others)'),
    deny('process-info*', ' (target others)'),
    ...DENIED.map((what) => deny(what)),
    '',
  ].join('\n');
}
