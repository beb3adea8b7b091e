/**
 * A guarded process's memory, opened anew for each question: the one that asks may be a child that was not there before.
 * Questions are few. The number is a thread's, and holds as long as the thread waits for its answer; whoever opens it
 * asks the listener afterwards whether it still does.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { SEND_BYTES_MAX } from '../../guard/limits.ts';
import type { ReadableMemory } from '../memory.ts';

const USER_END = 0x8000_0000_0000n;

export class ThreadMemory implements ReadableMemory {
  readonly #mem: number;

  /** Throws when the thread is gone, or hides its memory. */
  constructor(tid: number) {
    this.#mem = openSync(`/proc/${tid}/mem`, 'r+');
  }

  read(address: bigint, length: number): Buffer {
    const wanted = Math.max(0, Math.min(length, SEND_BYTES_MAX));
    if (address <= 0n || address >= USER_END || wanted === 0) return Buffer.alloc(0);
    const bytes = Buffer.alloc(wanted);
    try {
      return bytes.subarray(0, readSync(this.#mem, bytes, 0, bytes.length, address));
    } catch {
      return Buffer.alloc(0);
    }
  }

  write(address: bigint, bytes: Buffer): boolean {
    if (address <= 0n || address + BigInt(bytes.length) >= USER_END) return false;
    try {
      return writeSync(this.#mem, bytes, 0, bytes.length, Number(address)) === bytes.length;
    } catch {
      return false;
    }
  }

  close(): void {
    closeSync(this.#mem);
  }
}

export const NO_MEMORY: ReadableMemory = { read: () => Buffer.alloc(0), write: () => false };

/** The process that a thread belongs to; undefined when it is gone. */
export function processOf(tid: number): number | undefined {
  try {
    const tgid = /^Tgid:\s+(\d+)/m.exec(readFileSync(`/proc/${tid}/status`, 'utf8'))?.[1];
    return tgid === undefined ? undefined : Number(tgid);
  } catch {
    return undefined;
  }
}
