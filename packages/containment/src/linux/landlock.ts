/**
 * Landlock as a second wall, where the kernel has it: no path rights but executing the engine's program and its
 * loader, no TCP, no signals and no abstract sockets outwards. It does not stop everything the warden stops
 * (prlimit64, stat, ioctl on a held descriptor): never the only wall.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { numberOf, type Arch } from './arch.ts';
import { addressOf, libc } from './libc.ts';

const CREATE_RULESET_VERSION = 1;
const RULE_PATH_BENEATH = 1;
const FS_EXECUTE = 1n;
const FS_READ_FILE = 4n;
/** linux/landlock.h: which rights each ABI added; a right unknown to the kernel is an error, so exactly its own. */
const FS_RIGHTS_BY_ABI = [0n, 0x1fffn, 0x3fffn, 0x7fffn, 0x7fffn, 0xffffn];
const NET_RIGHTS_FROM_ABI = 4;
const NET_RIGHTS = 3n;
const SCOPES_FROM_ABI = 6;
const SCOPES = 3n;

/** 0 when the kernel has no Landlock or it is switched off. */
export function landlockAbi(arch: Arch): number {
  return Math.max(
    0,
    libc().syscall(numberOf(arch, 'landlock_create_ruleset'), 0, 0, CREATE_RULESET_VERSION),
  );
}

/**
 * Shuts in the thread on which `onThread` makes its call. Returns the ABI used, 0 for none. Needs no_new_privs there.
 */
export async function restrict(
  arch: Arch,
  executable: readonly number[],
  onThread: (nr: number, ruleset: number, flags: number) => Promise<number>,
): Promise<number> {
  const abi = landlockAbi(arch);
  if (abi === 0) return 0;
  const attributes = Buffer.alloc(24);
  attributes.writeBigUInt64LE(
    FS_RIGHTS_BY_ABI[Math.min(abi, FS_RIGHTS_BY_ABI.length - 1)] ?? 0n,
    0,
  );
  if (abi >= NET_RIGHTS_FROM_ABI) attributes.writeBigUInt64LE(NET_RIGHTS, 8);
  if (abi >= SCOPES_FROM_ABI) attributes.writeBigUInt64LE(SCOPES, 16);
  const size = abi >= SCOPES_FROM_ABI ? 24 : abi >= NET_RIGHTS_FROM_ABI ? 16 : 8;
  const c = libc();
  const check = (what: string, result: number): number => {
    if (result < 0) throw new Error(`${what} failed, errno ${c.errno()}`);
    return result;
  };
  const ruleset = check(
    'landlock_create_ruleset',
    c.syscall(numberOf(arch, 'landlock_create_ruleset'), addressOf(attributes), size, 0),
  );
  for (const fd of executable) {
    const rule = Buffer.alloc(12);
    rule.writeBigUInt64LE(FS_EXECUTE | FS_READ_FILE, 0);
    rule.writeInt32LE(fd, 8);
    check(
      'landlock_add_rule',
      c.syscall(
        numberOf(arch, 'landlock_add_rule'),
        ruleset,
        RULE_PATH_BENEATH,
        addressOf(rule),
        0,
      ),
    );
  }
  const restricted = await onThread(numberOf(arch, 'landlock_restrict_self'), ruleset, 0);
  closeSync(ruleset);
  if (restricted < 0) throw new Error('landlock_restrict_self failed');
  return abi;
}

const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADERS_MAX = 64;
const PT_INTERP = 3;
const PATH_MAX = 4096;

/** The loader that an ELF program names (PT_INTERP), opened; undefined for a static program. */
export function openInterpreter(program: number): number | undefined {
  const header = Buffer.alloc(ELF_HEADER_BYTES);
  if (readSync(program, header, 0, ELF_HEADER_BYTES, 0) < ELF_HEADER_BYTES) return undefined;
  if (header.readUInt32BE(0) !== 0x7f45_4c46 || header[4] !== 2) return undefined;
  const size = header.readUInt16LE(54);
  const table = Number(header.readBigUInt64LE(32));
  for (let i = 0; i < Math.min(header.readUInt16LE(56), PROGRAM_HEADERS_MAX); i++) {
    const row = Buffer.alloc(56);
    if (readSync(program, row, 0, row.length, table + i * size) < row.length) return undefined;
    if (row.readUInt32LE(0) !== PT_INTERP) continue;
    const name = Buffer.alloc(Math.min(Number(row.readBigUInt64LE(32)), PATH_MAX));
    readSync(program, name, 0, name.length, Number(row.readBigUInt64LE(8)));
    return openSync(name.toString('utf8').replace(/\0.*$/s, ''), 'r');
  }
  return undefined;
}
