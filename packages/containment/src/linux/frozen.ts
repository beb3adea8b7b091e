/** Makes the frozen copies of known.ts: a file in memory, sealed, opened anew for each reader. */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { numberOf, type Arch } from './arch.ts';
import { FROZEN_FILES, type FrozenFile } from './known.ts';
import { addressOf, libc } from './libc.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const ALL_SEALS = 1 | 2 | 4 | 8;
const COPY_BYTES_MAX = 1024 * 1024;

const BY_PATH: ReadonlyMap<string, FrozenFile> = new Map(
  FROZEN_FILES.map((file) => [file.path, file]),
);
export const frozenFile = (path: string): FrozenFile | undefined => BY_PATH.get(path);

function readBounded(path: string): Buffer {
  return readFileSync(path).subarray(0, COPY_BYTES_MAX);
}

/** Processors without their history: it would tell what else the machine does. */
function cpuTimes(): Buffer {
  const row = (name: string): string => `${name} 0 0 0 0 0 0 0 0 0 0\n`;
  const cpus = Array.from({ length: availableParallelism() }, (_, i) => row(`cpu${i}`));
  return Buffer.from(`${row('cpu ')}${cpus.join('')}intr 0\nctxt 0\nbtime 0\nprocesses 0\n`);
}

function memoryTotal(): Buffer {
  const total = /^MemTotal:.*$/m.exec(readBounded('/proc/meminfo').toString('latin1'))?.[0] ?? '';
  const kilobytes = /\d+/.exec(total)?.[0] ?? '0';
  const row = (name: string): string => `${`${name}:`.padEnd(16)}${kilobytes.padStart(8)} kB\n`;
  return Buffer.from(row('MemTotal') + row('MemFree') + row('MemAvailable'));
}

const kept = new Map<string, Buffer>();

function content(file: FrozenFile, maps: () => Buffer): Buffer {
  if (file.source === 'maps') return maps();
  const before = kept.get(file.path);
  if (before !== undefined) return before;
  const bytes =
    file.source === 'cpu_times'
      ? cpuTimes()
      : file.source === 'meminfo'
        ? memoryTotal()
        : readBounded(file.path);
  kept.set(file.path, bytes);
  return bytes;
}

/** A read-only descriptor; throws when the file does not exist on this machine. The caller closes it. */
export function openFrozen(arch: Arch, file: FrozenFile, maps: () => Buffer): number {
  const bytes = content(file, maps);
  const c = libc();
  const name = Buffer.from('frozen\0');
  const fd = c.syscall(
    numberOf(arch, 'memfd_create'),
    addressOf(name),
    MFD_CLOEXEC | MFD_ALLOW_SEALING,
  );
  if (fd < 0) throw new Error(`memfd_create failed, errno ${c.errno()}`);
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
    c.syscall(numberOf(arch, 'fcntl'), fd, F_ADD_SEALS, ALL_SEALS);
    return openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
  } finally {
    closeSync(fd);
  }
}
