/** Real pipes on macOS: Node's own 'pipe' is a pair of sockets, which the engine shall not have. */
import koffi from 'koffi';

const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** [read end, write end], close-on-exec. */
export function makePipe(): readonly [number, number] {
  const c = koffi.load('/usr/lib/libSystem.B.dylib');
  const pipe = c.func('int pipe(void*)') as (out: Buffer) => number;
  // Variadic arguments travel on the stack on Apple Silicon.
  const fcntl = c.func('int fcntl(int, int, ...)') as (...all: unknown[]) => number;
  const out = Buffer.alloc(8);
  if (pipe(out) !== 0) throw new Error(`pipe failed, errno ${koffi.errno()}`);
  const ends = [out.readInt32LE(0), out.readInt32LE(4)] as const;
  for (const fd of ends)
    if (fcntl(fd, F_SETFD, 'int', FD_CLOEXEC) !== 0)
      throw new Error(`fcntl failed, errno ${koffi.errno()}`);
  return ends;
}
