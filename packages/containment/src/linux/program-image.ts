/**
 * A copy of Node in memory, for one case: minikeep runs as root with a Node that only root may execute (installed
 * under umask 077). The engine's user can't execute that file, but may execute a sealed copy.
 */
import { readSync, writeSync } from 'node:fs';
import { numberOf, type Arch } from './arch.ts';
import { addressOf, libc } from './libc.ts';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
/** From Linux 6.3 on the caller says so; older kernels refuse the flag and need none. */
const MFD_EXEC = 0x10;
const F_ADD_SEALS = 1033;
/** seal, shrink, grow, write */
const ALL_SEALS = 1 | 2 | 4 | 8;
const CHUNK_BYTES = 4 * 1024 * 1024;

export function programImage(arch: Arch, source: number): number {
  const c = libc();
  const name = Buffer.from('node\0');
  const create = (flags: number): number =>
    c.syscall(numberOf(arch, 'memfd_create'), addressOf(name), flags);
  let fd = create(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (fd < 0) fd = create(MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new Error(`memfd_create failed, errno ${c.errno()}`);
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let position = 0; ;) {
    const n = readSync(source, chunk, 0, chunk.length, position);
    if (n === 0) break;
    for (let done = 0; done < n;) done += writeSync(fd, chunk, done, n - done, position + done);
    position += n;
  }
  if (c.syscall(numberOf(arch, 'fchmod'), fd, 0o555) < 0)
    throw new Error(`fchmod failed, errno ${c.errno()}`);
  if (c.syscall(numberOf(arch, 'fcntl'), fd, F_ADD_SEALS, ALL_SEALS) < 0)
    throw new Error(`sealing the copy failed, errno ${c.errno()}`);
  return fd;
}
