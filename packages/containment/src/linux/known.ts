/**
 * What Node, glibc and the libraries ask although nobody attacks: answered without a record, each row with its
 * reason. Nothing is let through by a row: the answer is a fixed error or a frozen copy, so an attacker who hides
 * among them gains nothing, and beyond `times_max` even these are recorded.
 */
import { ERRNO } from '../warden/attempt.ts';
import type { Phase } from './rules.ts';

/** Served as copies in memory, made once per opening; `maps` is the engine's own list of mappings. */
export type FrozenSource = 'maps' | 'cpu_times' | 'cpuinfo' | 'meminfo' | 'copy';

export interface FrozenFile {
  readonly path: string;
  readonly source: FrozenSource;
  /** Beyond it a reading is an attempt; absent: as often as it likes, for the copy is small and made once. */
  readonly times_max?: number;
  readonly reason: string;
}

export const FROZEN_FILES: readonly FrozenFile[] = [
  {
    path: '/proc/self/maps',
    source: 'maps',
    times_max: 64,
    reason:
      "glibc finds the main thread's stack with it, once; each copy is made anew, of up to 4 MiB",
  },
  {
    path: '/proc/stat',
    source: 'cpu_times',
    reason: 'glibc and libuv count processors; times and boot time are zero',
  },
  { path: '/proc/cpuinfo', source: 'cpuinfo', reason: 'libuv and ggml name the processor' },
  { path: '/proc/meminfo', source: 'meminfo', reason: 'V8 sizes its heap; only the total is true' },
  { path: '/sys/devices/system/cpu/online', source: 'copy', reason: 'glibc counts processors' },
  { path: '/sys/devices/system/cpu/possible', source: 'copy', reason: 'glibc counts processors' },
  {
    path: '/proc/sys/vm/overcommit_memory',
    source: 'copy',
    reason: "glibc's malloc decides how to shrink a heap",
  },
];

export interface AbsentPath {
  /** Whole path, or the beginning of one when it ends in `*`. `{entry}`: each folder above the entry. */
  readonly path: string;
  readonly times_max: number;
  readonly reason: string;
}

/** Not there, in every phase: ENOENT. */
export const ABSENT_PATHS: readonly AbsentPath[] = [
  { path: '/etc/ld.so.preload', times_max: 4, reason: 'the loader looks for libraries to preload' },
  {
    path: '/etc/ssl/openssl.cnf',
    times_max: 4,
    reason: 'OpenSSL in Node looks for its configuration',
  },
  { path: '/usr/local/ssl/openssl.cnf', times_max: 4, reason: 'the same, in other builds of Node' },
  {
    path: '/proc/version_signature',
    times_max: 4,
    reason: "libuv looks for a distribution's kernel version",
  },
  { path: '/proc/self/cgroup', times_max: 16, reason: 'libuv looks for a memory limit' },
  { path: '/sys/fs/cgroup/*', times_max: 16, reason: 'the same' },
  { path: '{entry}/package.json', times_max: 128, reason: "Node looks for a module's type" },
  {
    path: '/sys/devices/system/cpu/cpu0/tsc_freq_khz',
    times_max: 64,
    reason: 'V8 looks for the frequency of the time stamp counter',
  },
];

export interface KnownCall {
  readonly call: string;
  /** First argument's low half, where only that value is meant. */
  readonly first?: number;
  readonly phases: readonly Phase[];
  readonly answer: { readonly value: number } | { readonly errno: number };
  readonly times_max: number;
  readonly reason: string;
}

const PR_SET_NAME = 15;
const PR_SET_VMA = 0x5356_4d41;

export const KNOWN_CALLS: readonly KnownCall[] = [
  {
    call: 'io_uring_setup',
    phases: ['start', 'data'],
    answer: { errno: ERRNO.ENOSYS },
    times_max: 8,
    reason: 'libuv tries it for each event loop, and goes on without',
  },
  {
    call: 'prctl',
    first: PR_SET_NAME,
    phases: ['data', 'sealed'],
    answer: { value: 0 },
    times_max: 4096,
    reason: 'a new thread names itself; the name would appear outside, so it is not set',
  },
  {
    call: 'prctl',
    first: PR_SET_VMA,
    phases: ['data', 'sealed'],
    answer: { errno: ERRNO.EINVAL },
    times_max: 65_536,
    reason: 'glibc and V8 name their mappings; a kernel without that feature answers the same',
  },
];

/** Sub-folders in which the loader looks first for builds for a newer processor. */
export const LOADER_SUBFOLDERS =
  /^(glibc-hwcaps\/x86-64-v[234]\/|tls\/|haswell\/|avx512_1\/|x86_64\/)*$/;
export const LOADER_TIMES_MAX = 4096;
