/**
 * Calls that name a path. None of them reaches the kernel: even asking for a file's size sends its name to a file
 * server. The warden answers from its list of exact files, opens those itself and hands the descriptor over.
 */
import nodePath from 'node:path';
import { type Decision, ERRNO, fails, returns } from '../warden/attempt.ts';
import { PATH_BYTES_MAX } from '../warden/limits.ts';
import type { Arch } from './arch.ts';
import { pathText } from './describe.ts';
import { type AllowedFile, type FileTable, openAllowed } from './files.ts';
import { frozenFile, openFrozen } from './frozen.ts';
import { ABSENT_PATHS, LOADER_SUBFOLDERS, LOADER_TIMES_MAX } from './known.ts';
import { readString, type ReadableMemory } from './memory.ts';
import type { Phase } from './rules.ts';
import { FOLDER_FACTS, PIPE_FACTS, packStat, packStatx, type StatFacts } from './stat.ts';

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const O_ACCMODE = 3;
const O_WRITES = 0o100 | 0o1000 | 0o20000000; // O_CREAT O_TRUNC O_TMPFILE
const O_PATH = 0o10000000;
const O_DIRECTORY = 0o200000;
const O_CLOEXEC = 0o2000000;
const W_OK = 2;

/** Where each call has its arguments; -1: it has none. */
interface PathCall {
  readonly does: 'open' | 'stat' | 'statx' | 'access' | 'readlink';
  readonly dir: number;
  readonly path: number;
  readonly flags: number;
  /** Where the answer is written. */
  readonly out: number;
}

const PATH_CALLS: Readonly<Record<string, PathCall>> = {
  open: { does: 'open', dir: -1, path: 0, flags: 1, out: -1 },
  openat: { does: 'open', dir: 0, path: 1, flags: 2, out: -1 },
  openat2: { does: 'open', dir: 0, path: 1, flags: 2, out: -1 },
  stat: { does: 'stat', dir: -1, path: 0, flags: -1, out: 1 },
  lstat: { does: 'stat', dir: -1, path: 0, flags: -1, out: 1 },
  newfstatat: { does: 'stat', dir: 0, path: 1, flags: 3, out: 2 },
  statx: { does: 'statx', dir: 0, path: 1, flags: 2, out: 4 },
  access: { does: 'access', dir: -1, path: 0, flags: 1, out: -1 },
  faccessat: { does: 'access', dir: 0, path: 1, flags: 2, out: -1 },
  faccessat2: { does: 'access', dir: 0, path: 1, flags: 2, out: -1 },
  readlink: { does: 'readlink', dir: -1, path: 0, flags: -1, out: 1 },
  readlinkat: { does: 'readlink', dir: 0, path: 1, flags: -1, out: 2 },
};

export interface PathRules {
  readonly arch: Arch;
  readonly files: FileTable;
  /** Node's program, which it asks for as /proc/self/exe. */
  readonly program: string;
  readonly entry: string;
  /** Where the loader looks for which names without finding them. */
  readonly loader: { readonly names: ReadonlySet<string>; readonly folders: ReadonlySet<string> };
}

const low = (value: bigint | undefined): number => Number((value ?? 0n) & 0xffff_ffffn);

export class PathJudge {
  readonly #rules: PathRules;
  readonly #opened: (file: AllowedFile) => void;
  /** What the descriptors are that the warden handed over; 0 to 2 are our pipes. */
  #descriptors = new Map<number, StatFacts>([0, 1, 2].map((fd) => [fd, PIPE_FACTS]));
  #absentTimes = new Map<string, number>();
  #entryFolders: ReadonlySet<string>;

  /** `opened` is told of each allowed file that is about to be handed over. */
  constructor(rules: PathRules, opened: (file: AllowedFile) => void) {
    this.#rules = rules;
    this.#opened = opened;
    const folders = new Set<string>(['/']);
    for (let f = nodePath.dirname(rules.entry); f !== '/'; f = nodePath.dirname(f)) folders.add(f);
    this.#entryFolders = folders;
  }

  /** Undefined when the call names no path. */
  decide(
    call: string,
    args: readonly bigint[],
    phase: Phase,
    memory: ReadableMemory,
    maps: () => Buffer,
  ): Decision | undefined {
    const shape = PATH_CALLS[call];
    if (shape === undefined) return undefined;
    const dir = shape.dir < 0 ? AT_FDCWD : low(args[shape.dir]) | 0;
    const bytes = readString(memory, args[shape.path] ?? 0n);
    const flags = this.#flags(call, shape, args, memory);
    if (bytes === undefined || flags === undefined)
      return this.#refuse(call, shape, args, memory, ERRNO.EFAULT);
    const text = bytes.toString('utf8');
    const sameBytes = Buffer.from(text, 'utf8').equals(bytes);
    // The engine holds no folder and its working directory is /, so a relative name starts there.
    const name = sameBytes ? nodePath.posix.resolve('/', text) : undefined;
    if (bytes.length === 0) {
      const known = this.#descriptors.get(dir);
      const asks =
        (flags & AT_EMPTY_PATH) !== 0 && (shape.does === 'stat' || shape.does === 'statx');
      if (asks && known !== undefined && phase !== 'sealed')
        return this.#answerStat(shape, known, args, memory);
      return this.#refuse(call, shape, args, memory, ERRNO.EBADF);
    }
    if (shape.does === 'open' && ((flags & O_ACCMODE) !== 0 || (flags & O_WRITES) !== 0))
      return this.#refuse(call, shape, args, memory, ERRNO.EROFS, 'write');
    if (name !== undefined) {
      const frozen = frozenFile(name);
      if (frozen !== undefined && shape.does === 'open') {
        const { times_max } = frozen;
        if (times_max === undefined || this.#count(name, times_max))
          return this.#openFrozen(name, flags, maps);
      }
      if (this.#absent(name)) return fails(ERRNO.ENOENT);
      if (phase !== 'sealed') {
        const answer = this.#answer(shape, name, flags, args, memory);
        if (answer !== undefined) return answer;
      }
    }
    return this.#refuse(call, shape, args, memory, ERRNO.ENOENT);
  }

  #flags(
    call: string,
    shape: PathCall,
    args: readonly bigint[],
    memory: ReadableMemory,
  ): number | undefined {
    if (shape.flags < 0) return 0;
    if (call !== 'openat2') return low(args[shape.flags]);
    // struct open_how: read once, and only this copy is acted upon.
    const how = memory.read(args[shape.flags] ?? 0n, 8);
    return how.length < 8 ? undefined : low(how.readBigUInt64LE(0));
  }

  #answer(
    shape: PathCall,
    name: string,
    flags: number,
    args: readonly bigint[],
    memory: ReadableMemory,
  ): Decision | undefined {
    const file = this.#rules.files.find(name);
    const facts = file ?? (this.#rules.files.isFolder(name) ? FOLDER_FACTS : undefined);
    switch (shape.does) {
      case 'open':
        return file === undefined || (flags & (O_PATH | O_DIRECTORY)) !== 0
          ? undefined
          : this.#open(file, flags);
      case 'stat':
      case 'statx':
        if (facts === undefined) return undefined;
        return this.#answerStat(
          shape,
          file === undefined
            ? FOLDER_FACTS
            : { mode: file.mode & ~0o222, size: file.size, ino: file.index },
          args,
          memory,
        );
      case 'access':
        if (facts === undefined) return undefined;
        return (low(args[shape.flags]) & W_OK) !== 0 ? fails(ERRNO.EROFS) : returns(0);
      case 'readlink':
        if (name === '/proc/self/exe') return this.#answerLink(shape, args, memory);
        return facts === undefined ? undefined : fails(ERRNO.EINVAL); // no allowed name is a link
    }
  }

  #open(file: AllowedFile, flags: number): Decision {
    const fd = openAllowed(file);
    if (fd === undefined) return fails(ERRNO.ENOENT);
    this.#opened(file);
    return this.#handOver(file.path, fd, flags, {
      mode: file.mode & ~0o222,
      size: file.size,
      ino: file.index,
    });
  }

  #openFrozen(name: string, flags: number, maps: () => Buffer): Decision {
    const file = frozenFile(name);
    if (file === undefined) return fails(ERRNO.ENOENT);
    try {
      const fd = openFrozen(this.#rules.arch, file, maps);
      return this.#handOver(name, fd, flags, { mode: 0o100444, size: 0, ino: 0xfffd });
    } catch {
      return fails(ERRNO.ENOENT); // this machine has no such file
    }
  }

  #handOver(path: string, fd: number, flags: number, facts: StatFacts): Decision {
    const given = (engineFd: number): void => {
      this.#descriptors.set(engineFd, facts);
    };
    return {
      answer: { do: 'descriptor', fd, close_on_exec: (flags & O_CLOEXEC) !== 0, given },
      hands_over: path,
    };
  }

  #answerStat(
    shape: PathCall,
    facts: StatFacts,
    args: readonly bigint[],
    memory: ReadableMemory,
  ): Decision {
    const bytes = shape.does === 'statx' ? packStatx(facts) : packStat(facts);
    return memory.write(args[shape.out] ?? 0n, bytes) ? returns(0) : fails(ERRNO.EFAULT);
  }

  #answerLink(shape: PathCall, args: readonly bigint[], memory: ReadableMemory): Decision {
    const room = Math.min(low(args[shape.out + 1]), PATH_BYTES_MAX);
    const bytes = Buffer.from(this.#rules.program).subarray(0, room);
    return memory.write(args[shape.out] ?? 0n, bytes) ? returns(bytes.length) : fails(ERRNO.EFAULT);
  }

  /** Known and not there (known.ts), within its number of times. */
  #absent(name: string): boolean {
    const row = ABSENT_PATHS.find(({ path }) => {
      if (path.startsWith('{entry}/'))
        return (
          this.#entryFolders.has(nodePath.dirname(name)) &&
          nodePath.basename(name) === path.slice('{entry}/'.length) &&
          this.#rules.files.find(name) === undefined
        );
      return path.endsWith('*') ? name.startsWith(path.slice(0, -1)) : name === path;
    });
    if (row !== undefined) return this.#count(row.path, row.times_max);
    return this.#loaderLooks(name) && this.#count('loader', LOADER_TIMES_MAX);
  }

  #loaderLooks(name: string): boolean {
    const { names, folders } = this.#rules.loader;
    if (this.#rules.files.find(name) !== undefined) return false;
    const known = names.has(nodePath.basename(name));
    for (const folder of folders) {
      if (!name.startsWith(`${folder}/`)) continue;
      const rest = name.slice(folder.length + 1);
      const below = known ? rest.slice(0, rest.lastIndexOf('/') + 1) : `${rest}/`;
      if (LOADER_SUBFOLDERS.test(below) && (known || below !== '')) return true;
    }
    return false;
  }

  #count(key: string, max: number): boolean {
    const times = (this.#absentTimes.get(key) ?? 0) + 1;
    this.#absentTimes.set(key, times);
    return times <= max;
  }

  #refuse(
    call: string,
    shape: PathCall,
    args: readonly bigint[],
    memory: ReadableMemory,
    errno: number,
    kind: 'read' | 'write' = 'read',
  ): Decision {
    return fails(errno, { kind, operation: call, target: pathText(memory, args[shape.path]) });
  }
}
