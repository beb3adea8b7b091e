/**
 * The engine's memory, as the warden sees it: /proc/PID/mem, opened once after execve and kept. It works after the
 * engine made itself undumpable, can't reach a process that gets the same id later, and is the same for all threads.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { PATH_BYTES_MAX } from '../warden/limits.ts';
import { numberOf, type Arch } from './arch.ts';
import { libc } from './libc.ts';

/** First address that no program can have (x86-64 and arm64 with 48 bits). */
const USER_END = 0x8000_0000_0000n;
const MAPS_BYTES_MAX = 4 * 1024 * 1024;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** What decoders may read. Nothing throws: unreadable memory is fewer bytes. */
export interface ReadableMemory {
  /** At most `length` bytes, and fewer where the memory ends. */
  read(address: bigint, length: number): Buffer;
  /** All of it, or false. */
  write(address: bigint, bytes: Buffer): boolean;
}

/** A C string of at most PATH_BYTES_MAX bytes; undefined when it is unreadable or has no end. */
export function readString(memory: ReadableMemory, address: bigint): Buffer | undefined {
  const bytes = memory.read(address, PATH_BYTES_MAX);
  const end = bytes.indexOf(0);
  return end < 0 ? undefined : bytes.subarray(0, end);
}

export interface EngineUser {
  readonly uid: number;
  readonly gid: number;
}

export class EngineMemory implements ReadableMemory {
  readonly #mem: number;
  readonly #maps: number;

  private constructor(mem: number, maps: number) {
    this.#mem = mem;
    this.#maps = maps;
  }

  /**
   * Root in a container usually lacks CAP_SYS_PTRACE; the kernel then compares file system ids, so this thread takes
   * the engine's for the moment of opening.
   */
  static open(arch: Arch, pid: number, user: EngineUser): EngineMemory {
    const open = (): EngineMemory => {
      const mem = openSync(`/proc/${pid}/mem`, 'r+');
      return new EngineMemory(mem, openSync(`/proc/${pid}/maps`, 'r'));
    };
    try {
      return open();
    } catch (error) {
      if (process.geteuid?.() !== 0) throw error;
    }
    const c = libc();
    const setIds = (uid: number, gid: number): void => {
      c.syscall(numberOf(arch, 'setfsgid'), gid);
      c.syscall(numberOf(arch, 'setfsuid'), uid);
    };
    setIds(user.uid, user.gid);
    try {
      return open();
    } finally {
      setIds(0, 0);
      // A change of ids clears the death signal.
      c.syscall(numberOf(arch, 'prctl'), PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    }
  }

  read(address: bigint, length: number): Buffer {
    if (address <= 0n || address >= USER_END) return Buffer.alloc(0);
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, PATH_BYTES_MAX)));
    try {
      return bytes.subarray(0, readSync(this.#mem, bytes, 0, bytes.length, address));
    } catch {
      return Buffer.alloc(0);
    }
  }

  write(address: bigint, bytes: Buffer): boolean {
    if (address <= 0n || address + BigInt(bytes.length) >= USER_END) return false;
    try {
      // /proc/PID/mem could write where the program itself can't; the engine only harms itself with that.
      return writeSync(this.#mem, bytes, 0, bytes.length, Number(address)) === bytes.length;
    } catch {
      return false;
    }
  }

  /** The engine's own list of mappings, which glibc reads to find its stack. */
  maps(): Buffer {
    const parts: Buffer[] = [];
    // The kernel gives a page at a time: copied out, or each would hold a whole piece of ours.
    const piece = Buffer.alloc(16 * 1024);
    for (let total = 0; total < MAPS_BYTES_MAX;) {
      const n = readSync(this.#maps, piece, 0, piece.length, total);
      if (n === 0) break;
      parts.push(Buffer.from(piece.subarray(0, n)));
      total += n;
    }
    return Buffer.concat(parts);
  }

  close(): void {
    closeSync(this.#mem);
    closeSync(this.#maps);
  }
}
