/** struct stat and struct statx as the engine gets them: type, rights and size; no times, owners or real inodes. */

export interface StatFacts {
  readonly mode: number;
  readonly size: number;
  readonly ino: number;
}

const BLOCK_BYTES = 4096n;
const SECTOR_BYTES = 512;
const DEVICE = 1n;
const STATX_BASIC = 0x7ff;
const S_IFDIR = 0o040000;
const S_IFIFO = 0o010000;

export const FOLDER_FACTS: StatFacts = { mode: S_IFDIR | 0o555, size: 4096, ino: 0xffff };
export const PIPE_FACTS: StatFacts = { mode: S_IFIFO | 0o600, size: 0, ino: 0xfffe };

const sectors = (size: number): bigint => BigInt(Math.ceil(size / SECTOR_BYTES));

/** struct stat of x86-64 (asm/stat.h), 144 bytes. */
export function packStat({ mode, size, ino }: StatFacts): Buffer {
  const b = Buffer.alloc(144);
  b.writeBigUInt64LE(DEVICE, 0);
  b.writeBigUInt64LE(BigInt(ino), 8);
  b.writeBigUInt64LE(1n, 16);
  b.writeUInt32LE(mode, 24);
  b.writeBigInt64LE(BigInt(size), 48);
  b.writeBigInt64LE(BLOCK_BYTES, 56);
  b.writeBigInt64LE(sectors(size), 64);
  return b;
}

/** struct statx (linux/stat.h), 256 bytes; device numbers stay zero. */
export function packStatx({ mode, size, ino }: StatFacts): Buffer {
  const b = Buffer.alloc(256);
  b.writeUInt32LE(STATX_BASIC, 0);
  b.writeUInt32LE(Number(BLOCK_BYTES), 4);
  b.writeUInt32LE(1, 16);
  b.writeUInt16LE(mode, 28);
  b.writeBigUInt64LE(BigInt(ino), 32);
  b.writeBigUInt64LE(BigInt(size), 40);
  b.writeBigUInt64LE(sectors(size), 48);
  b.writeUInt32LE(Number(DEVICE), 140); // stx_dev_minor
  return b;
}
