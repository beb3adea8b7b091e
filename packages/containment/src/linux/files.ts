/**
 * The exact files that an engine may read. Each is resolved and checked once, before the engine runs: links followed,
 * a regular file on a local file system. Opening compares the file with what was checked then.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  statfsSync,
} from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { ALLOWED_FILES_MAX } from '../warden/limits.ts';

/** program: Node's and the system's own. data: a model or slice, untrusted; opening one ends the start phase. */
export type FileRole = 'program' | 'data';

export interface AllowedFile {
  /** Canonical. */
  readonly path: string;
  readonly role: FileRole;
  readonly dev: number;
  readonly ino: number;
  /** Time of birth: an inode number is used again as soon as its file is gone. */
  readonly born_ms: number;
  readonly size: number;
  readonly mode: number;
  /** Stands for the inode number in answers: the real one is none of the engine's business. */
  readonly index: number;
}

/** statfs types whose server would see the file names, or whose server is a process (linux/magic.h). */
const REMOTE_FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0x6969: 'NFS',
  0x517b: 'SMB',
  0xff53_4d42: 'CIFS',
  0xfe53_4d42: 'SMB2',
  0x6573_5546: 'FUSE',
  0x0102_1997: '9P',
  0x00c3_6400: 'Ceph',
  0x5346_414f: 'AFS',
  0x6b41_4653: 'AFS',
  0x2003_0528: 'OrangeFS',
  0xbacb_acbc: 'VMware shared folder',
  0x7375_7245: 'Coda',
  0x0187: 'autofs',
  0x564c: 'NCP',
  0x0bd0_0bd3: 'Lustre',
  0x4750_4653: 'GPFS',
  0x1983_0326: 'BeeGFS',
  0xaad7_aaea: 'Panasas',
  0x786f_4256: 'VirtualBox shared folder',
};

export const remoteFileSystem = (type: number): string | undefined =>
  REMOTE_FILE_SYSTEMS[type >>> 0];

const O_NOATIME = 0o1000000;
const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW;

function refuse(code: string, message: string, next: string): never {
  throw new MinikeepError(`sandbox.${code}`, message, { next });
}

function check(file: string, role: FileRole, index: number): AllowedFile {
  let canonical: string;
  try {
    canonical = realpathSync(file);
  } catch (error) {
    return refuse(
      'file_missing',
      `${file} can't be read: ${(error as Error).message}`,
      'Check the path and its permissions.',
    );
  }
  const type = statfsSync(canonical).type;
  const remote = remoteFileSystem(type);
  if (remote !== undefined)
    refuse(
      'remote_file',
      `${canonical} lies on a ${remote} file system, whose server would see what the engine asks for`,
      'Copy it to a local disk and use that copy.',
    );
  const s = lstatSync(canonical);
  if (!s.isFile())
    refuse('not_a_file', `${canonical} is not a regular file`, 'Name a regular file.');
  return {
    path: canonical,
    role,
    dev: s.dev,
    ino: s.ino,
    born_ms: s.birthtimeMs,
    size: s.size,
    mode: s.mode,
    index,
  };
}

export class FileTable {
  #byName = new Map<string, AllowedFile>();
  #folders = new Set<string>(['/']);
  #roles: ReadonlyMap<string, FileRole>;

  /** Spelled names, absolute. Throws MinikeepError for one that is missing, remote or no regular file. */
  constructor(files: readonly { readonly path: string; readonly role: FileRole }[]) {
    if (files.length > ALLOWED_FILES_MAX)
      refuse(
        'too_many_files',
        `${files.length} files for one engine`,
        'Load a model with fewer parts.',
      );
    this.#roles = new Map(files.map((f) => [f.path, f.role]));
    for (const [spelled, role] of this.#roles) {
      const absolute = path.resolve(spelled);
      const entry = this.#byName.get(absolute) ?? check(absolute, role, this.#byName.size + 1);
      for (const name of [absolute, entry.path]) {
        this.#byName.set(name, entry);
        for (let folder = path.dirname(name); folder !== '/'; folder = path.dirname(folder))
          this.#folders.add(folder);
      }
    }
  }

  /** `name` absolute and normalised. */
  find(name: string): AllowedFile | undefined {
    return this.#byName.get(name);
  }

  /** Whether the name is a folder on the way to an allowed file. */
  isFolder(name: string): boolean {
    return this.#folders.has(name);
  }
}

/** Opens what was checked, or says that it is something else by now. The descriptor is the caller's to close. */
export function openAllowed(file: AllowedFile): number | undefined {
  let fd: number;
  try {
    fd = openSync(file.path, FLAGS | O_NOATIME);
  } catch {
    try {
      fd = openSync(file.path, FLAGS); // O_NOATIME is for the file's owner only
    } catch {
      return undefined;
    }
  }
  const s = fstatSync(fd);
  const same =
    s.isFile() && s.dev === file.dev && s.ino === file.ino && s.birthtimeMs === file.born_ms;
  if (same && readlinkSync(`/proc/self/fd/${fd}`) === file.path) return fd;
  closeSync(fd);
  return undefined;
}
