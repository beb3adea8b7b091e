/**
 * The C library through koffi, for what Node has no function for. Linux only; loaded on first use, so that
 * importing this package does nothing on another platform.
 */
import koffi from 'koffi';

export interface Libc {
  /** A system call by number; pointers as addresses (see `addressOf`). Returns -1 and sets errno on failure. */
  syscall(nr: number, ...args: readonly (number | bigint)[]): number;
  /** The same on libuv's pool, which must have one thread only; its errno is told by `errnoOnPool`. */
  syscallOnPool(nr: number, ...args: readonly (number | bigint)[]): Promise<number>;
  /** Of the last failed call on the pool's thread. */
  errnoOnPool(): Promise<number>;
  ioctl(fd: number, request: number, data: Buffer): number;
  /** For the requests whose argument is the value itself. */
  ioctlValue(fd: number, request: number, value: number): number;
  poll(fds: Buffer, count: number, timeoutMs: number): number;
  setresuid(real: number, effective: number, saved: number): number;
  setresgid(real: number, effective: number, saved: number): number;
  setgroups(count: number, groups: Buffer): number;
  /** Of the last failed call on this thread. */
  errno(): number;
}

const SYSCALL_ARGUMENTS = 6;
let loaded: Libc | undefined;

export function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const c = koffi.load('libc.so.6');
  const raw = c.func('long syscall(long, long, long, long, long, long, long)');
  const errnoLocation = c.func('void* __errno_location()');
  const pad = (args: readonly (number | bigint)[]): (number | bigint)[] => [
    ...args,
    ...Array.from({ length: SYSCALL_ARGUMENTS - args.length }, () => 0),
  ];
  loaded = {
    syscall: (nr, ...args) => Number(raw(nr, ...pad(args))),
    syscallOnPool: (nr, ...args) =>
      new Promise((resolve, reject) => {
        raw.async(nr, ...pad(args), (error: Error | null, result: number | bigint) =>
          error === null ? resolve(Number(result)) : reject(error),
        );
      }),
    errnoOnPool: () =>
      new Promise((resolve, reject) => {
        errnoLocation.async((error: Error | null, address: bigint) =>
          error === null ? resolve(Number(koffi.decode(address, 'int'))) : reject(error),
        );
      }),
    ioctl: c.func('int ioctl(int, ulong, void*)') as Libc['ioctl'],
    ioctlValue: c.func('int ioctl(int, ulong, ulong)') as Libc['ioctlValue'],
    poll: c.func('int poll(void*, ulong, int)') as Libc['poll'],
    setresuid: c.func('int setresuid(uint, uint, uint)') as Libc['setresuid'],
    setresgid: c.func('int setresgid(uint, uint, uint)') as Libc['setresgid'],
    setgroups: c.func('int setgroups(size_t, void*)') as Libc['setgroups'],
    errno: () => koffi.errno(),
  };
  return loaded;
}

/** Where a buffer's bytes lie. Keep the buffer alive as long as the kernel uses it. */
export const addressOf = (buffer: Buffer): bigint => koffi.address(buffer);

const O_CLOEXEC = 0o2000000;
const AF_UNIX = 1;
const SOCK_STREAM = 1;

function pair(what: string, call: (out: Buffer) => number): [number, number] {
  const out = Buffer.alloc(8);
  if (call(out) < 0) throw new Error(`${what} failed, errno ${libc().errno()}`);
  return [out.readInt32LE(0), out.readInt32LE(4)];
}

/** A real pipe (Node's own 'pipe' is a socket pair): [read end, write end], close-on-exec. */
export const makePipe = (numbers: Readonly<Record<string, number>>): [number, number] =>
  pair('pipe2', (out) => libc().syscall(numbers['pipe2'] ?? -1, addressOf(out), O_CLOEXEC));

/** A connected pair of Unix sockets, close-on-exec. */
export const makeSocketPair = (numbers: Readonly<Record<string, number>>): [number, number] =>
  pair('socketpair', (out) =>
    libc().syscall(
      numbers['socketpair'] ?? -1,
      AF_UNIX,
      SOCK_STREAM | O_CLOEXEC,
      0,
      addressOf(out),
    ),
  );
