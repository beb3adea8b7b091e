/**
 * The processor facts that the sandbox depends on: audit number, system call table, flag values that differ.
 * Linux on arm64 has its table, but was never run: the engine is refused there (`sandbox.unsupported_arch`).
 */
import { MinikeepError } from '@minikeep/protocol';
import { SYSCALLS_ARM64 } from './generated/syscalls-arm64.ts';
import { SYSCALLS_X64 } from './generated/syscalls-x64.ts';

export interface Arch {
  readonly name: 'x64' | 'arm64';
  /** AUDIT_ARCH_* (linux/audit.h): what a filter sees in `seccomp_data.arch`. */
  readonly audit: number;
  readonly numbers: Readonly<Record<string, number>>;
  /** From this number on calls belong to another ABI (x32); undefined where there is none. */
  readonly foreign_from?: number;
}

export const X64: Arch = {
  name: 'x64',
  audit: 0xc000_003e,
  numbers: SYSCALLS_X64,
  foreign_from: 0x4000_0000,
};
export const ARM64: Arch = { name: 'arm64', audit: 0xc000_00b7, numbers: SYSCALLS_ARM64 };

/** Number → name, for one architecture. */
export function syscallNames(arch: Arch): ReadonlyMap<number, string> {
  return new Map(Object.entries(arch.numbers).map(([name, number]) => [number, name]));
}

/** The number of a call that every supported architecture has. */
export function numberOf(arch: Arch, name: string): number {
  const number = arch.numbers[name];
  if (number === undefined) throw new Error(`no system call ${name} on ${arch.name}`);
  return number;
}

/** This machine's, or a refusal. */
export function hostArch(machine: string = process.arch): Arch {
  if (machine === 'x64') return X64;
  throw new MinikeepError(
    'sandbox.unsupported_arch',
    `the sandbox does not run on Linux ${machine}: its rules were never tried there`,
    { next: 'Use a Linux x86-64 machine, or a Mac with Apple Silicon.' },
  );
}
