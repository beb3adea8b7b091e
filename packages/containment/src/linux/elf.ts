/**
 * Which shared libraries an ELF file asks for (System V ABI, chapters 4 and 5), so that the list of files that the
 * loader may read is exact. Reads trusted, installed files, but bounded all the same.
 */
import { closeSync, openSync, readSync } from 'node:fs';

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PROGRAM_HEADERS_MAX = 64;
const DYNAMIC_BYTES_MAX = 64 * 1024;
const STRINGS_BYTES_MAX = 4 * 1024 * 1024;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const DT_STRSZ = 10n;

function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly bytes: number;
}

function segments(fd: number): Segment[] {
  const header = readAt(fd, 0, HEADER_BYTES);
  const isElf64 =
    header.length === HEADER_BYTES && header.readUInt32BE(0) === 0x7f45_4c46 && header[4] === 2;
  if (!isElf64) return [];
  const count = Math.min(header.readUInt16LE(56), PROGRAM_HEADERS_MAX);
  const table = readAt(fd, Number(header.readBigUInt64LE(32)), count * PROGRAM_HEADER_BYTES);
  return Array.from({ length: Math.floor(table.length / PROGRAM_HEADER_BYTES) }, (_, i) => {
    const row = table.subarray(i * PROGRAM_HEADER_BYTES);
    return {
      type: row.readUInt32LE(0),
      offset: Number(row.readBigUInt64LE(8)),
      address: Number(row.readBigUInt64LE(16)),
      bytes: Number(row.readBigUInt64LE(32)),
    };
  });
}

/** DT_NEEDED of one file; empty for anything that is no dynamic ELF file. */
export function neededLibraries(file: string): string[] {
  const fd = openSync(file, 'r');
  try {
    const all = segments(fd);
    const dynamic = all.find((s) => s.type === PT_DYNAMIC);
    if (dynamic === undefined) return [];
    const entries = readAt(fd, dynamic.offset, Math.min(dynamic.bytes, DYNAMIC_BYTES_MAX));
    const values = new Map<bigint, bigint>();
    const needed: number[] = [];
    for (let at = 0; at + 16 <= entries.length; at += 16) {
      const tag = entries.readBigUInt64LE(at);
      const value = entries.readBigUInt64LE(at + 8);
      if (tag === 0n) break;
      if (tag === DT_NEEDED) needed.push(Number(value));
      else values.set(tag, value);
    }
    const address = Number(values.get(DT_STRTAB) ?? 0n);
    const load = all.find(
      (s) => s.type === PT_LOAD && address >= s.address && address < s.address + s.bytes,
    );
    if (load === undefined) return [];
    const size = Math.min(Number(values.get(DT_STRSZ) ?? 0n), STRINGS_BYTES_MAX);
    const strings = readAt(fd, load.offset + address - load.address, size);
    return needed.map((at) => {
      const end = strings.indexOf(0, at);
      return strings.toString('utf8', at, end < 0 ? at : end);
    });
  } finally {
    closeSync(fd);
  }
}
