/**
 * The canary's native calls. It asks the kernel itself wherever it can: what Node's own library refuses to do would
 * look like a refusal of the sandbox.
 */
import koffi from 'koffi';
import { SYSCALLS_X64 } from '../linux/generated/syscalls-x64.ts';

export interface CallResult {
  readonly result: bigint;
  readonly errno: number;
}

export interface Native {
  /** By name: a system call (Linux) or a function of libc (macOS). */
  call(name: string, args: readonly bigint[]): CallResult;
  /** Address of a function that is already loaded; 0 when there is none. */
  symbol(name: string): bigint;
  /** Calls native code at an address that takes and returns nothing. */
  jump(address: bigint): void;
}

const SIX = ['int64', 'int64', 'int64', 'int64', 'int64', 'int64'];

/** Functions of macOS whose last arguments are variadic there: on Apple Silicon those travel on the stack. */
const VARIADIC_AFTER: Readonly<Record<string, number>> = {
  open: 2,
  openat: 3,
  fcntl: 2,
  ioctl: 2,
  sem_open: 2,
  shm_open: 2,
};

export function openNative(platform: NodeJS.Platform = process.platform): Native {
  const library = koffi.load(null);
  const dlsym = library.func('dlsym', 'int64', ['int64', 'str']) as (
    handle: bigint,
    name: string,
  ) => number | bigint;
  const symbol = (name: string): bigint => BigInt(dlsym(platform === 'darwin' ? -2n : 0n, name));
  const jump = (address: bigint): void => {
    koffi.call(address, koffi.proto('void', []));
  };
  const finish = (value: number | bigint): CallResult => {
    const errno = koffi.errno();
    const result = BigInt(value);
    return { result, errno: result === -1n ? errno : 0 };
  };
  if (platform === 'linux') {
    const syscall = library.func('syscall', 'int64', ['int64', ...SIX]) as (
      ...all: bigint[]
    ) => number | bigint;
    return {
      symbol,
      jump,
      call(name, args) {
        const number = /^nr:(\d+)$/.exec(name)?.[1] ?? SYSCALLS_X64[name];
        if (number === undefined) throw new Error(`no system call ${name}`);
        return finish(syscall(BigInt(number), ...six(args)));
      },
    };
  }
  const functions = new Map<string, (...all: unknown[]) => number | bigint>();
  return {
    symbol,
    jump,
    call(name, args) {
      const fixed = VARIADIC_AFTER[name];
      let f = functions.get(name);
      if (f === undefined) {
        const parameters = SIX.slice(0, Math.max(args.length, 1));
        f = (
          fixed === undefined
            ? library.func(name, 'int', parameters)
            : library.func(`int ${name}(${SIX.slice(0, fixed).join(', ')}, ...)`)
        ) as (...all: unknown[]) => number | bigint;
        functions.set(name, f);
      }
      const padded = args.length === 0 ? [0n] : args;
      if (fixed === undefined) return finish(f(...padded));
      return finish(
        f(...padded.slice(0, fixed), ...padded.slice(fixed).flatMap((v) => ['int64', v])),
      );
    },
  };
}

function six(args: readonly bigint[]): bigint[] {
  return Array.from({ length: 6 }, (_, i) => args[i] ?? 0n);
}

/** The address of a buffer that must outlive its use. */
export const addressOf = (bytes: Uint8Array): bigint => koffi.address(bytes);
