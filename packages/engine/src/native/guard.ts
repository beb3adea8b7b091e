/**
 * What the engine does to itself before it reads untrusted data. A crash leaves by `_exit(signal)`: with a handler in
 * place Linux writes no line with registers and code into its log, and macOS's crash reporter no excerpt of memory;
 * the warden knows the crash by the exit code. On Linux it also becomes undumpable: no other process of the same user
 * can read the prompts in its memory. The macOS half never ran on a Mac.
 */
import koffi from 'koffi';

interface Crashes {
  readonly library: string;
  /** SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV, as this system numbers them. */
  readonly signals: readonly number[];
  /** struct sigaction; the handler comes first. */
  readonly actionBytes: number;
}
/** glibc: handler, 128 bytes of mask, flags, restorer. libSystem: handler, mask, flags. */
const CRASHES: Readonly<Partial<Record<NodeJS.Platform, Crashes>>> = {
  linux: { library: 'libc.so.6', signals: [4, 5, 7, 8, 11], actionBytes: 152 },
  darwin: { library: '/usr/lib/libSystem.B.dylib', signals: [4, 5, 8, 10, 11], actionBytes: 16 },
};
const PR_SET_DUMPABLE = 4;

export function guardProcess(): void {
  const crashes = CRASHES[process.platform];
  if (crashes === undefined) return;
  const libc = koffi.load(crashes.library);
  const sigaction = libc.func('int sigaction(int, void*, void*)');
  const action = Buffer.alloc(crashes.actionBytes);
  action.writeBigUInt64LE(libc.symbol('_exit') as bigint, 0);
  for (const signal of crashes.signals)
    if (sigaction(signal, action, null) !== 0) throw new Error(`no handler for signal ${signal}`);
  if (process.platform !== 'linux') return;
  const prctl = libc.func('int prctl(int, ulong, ulong, ulong, ulong)');
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) throw new Error('the engine stays dumpable');
}
