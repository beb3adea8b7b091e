/**
 * The few things the engine needs from the C library itself: mapping a file without reading it through Node (reads
 * at an offset are refused once the engine is sealed), and an exit that runs none of Node's own clean-up.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { MinikeepError } from '@minikeep/protocol';
import type { Address } from './abi.ts';
import type { Pointer } from './binding.ts';
import { NEXT } from '../next-steps.ts';

const PROT_READ = 1;
const MAP_PRIVATE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const libc = koffi.load(process.platform === 'darwin' ? '/usr/lib/libSystem.B.dylib' : 'libc.so.6');
const mmap = libc.func('mmap', 'void*', ['void*', 'size_t', 'int', 'int', 'int', 'int64']);
const exitNow = libc.func('_exit', 'void', ['int']);

export const copyMemory = libc.func('memcpy', 'void*', ['void*', 'void*', 'size_t']) as unknown as (
  to: Pointer,
  from: Pointer,
  bytes: number,
) => Address;

/** Maps a whole file for reading, for as long as the process lives. The caller knows its size. */
export function mapFile(file: string, bytes: number): Address {
  const fd = openSync(file, 'r');
  try {
    const address = BigInt.asUintN(
      64,
      BigInt(mmap(null, bytes, PROT_READ, MAP_PRIVATE, fd, 0) ?? 0n),
    );
    if (address === MAP_FAILED || address === 0n)
      throw new MinikeepError('engine.map_failed', `cannot map ${bytes} bytes of the embedding`, {
        next: NEXT.freeMemory,
      });
    return address;
  } finally {
    closeSync(fd);
  }
}

/** Ends the process at once: Node's own exit calls what the sealed sandbox refuses, and would abort. */
export function leave(status: number): never {
  exitNow(status);
  throw new Error('_exit returned');
}
