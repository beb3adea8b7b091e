/**
 * What the engine does to itself before it reads untrusted data (Linux). A crash leaves by `_exit(signal)`: with a
 * handler in place the kernel writes no line with registers and code into its log, and the warden, which then refuses
 * to have the handlers changed, knows the crash by the exit code. Undumpable, no other process of the same user can
 * read the prompts in its memory.
 */
import koffi from 'koffi';

/** SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV, as Linux numbers them. */
const CRASH_SIGNALS = [4, 5, 7, 8, 11];
/** glibc's struct sigaction: handler, 128 bytes of mask, flags, restorer. */
const SIGACTION_BYTES = 152;
const PR_SET_DUMPABLE = 4;

export function guardProcess(): void {
  if (process.platform !== 'linux') return;
  const libc = koffi.load('libc.so.6');
  const sigaction = libc.func('int sigaction(int, void*, void*)');
  const prctl = libc.func('int prctl(int, ulong, ulong, ulong, ulong)');
  const action = Buffer.alloc(SIGACTION_BYTES);
  action.writeBigUInt64LE(libc.symbol('_exit') as bigint, 0);
  for (const signal of CRASH_SIGNALS)
    if (sigaction(signal, action, null) !== 0) throw new Error(`no handler for signal ${signal}`);
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) throw new Error('the engine stays dumpable');
}
