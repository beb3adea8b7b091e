/**
 * The life of a trusted process: start, say where it listens, and end in an orderly way for every reason there is:
 * a signal, the end of standard input (whoever started it is gone), or a fault of its own.
 *
 * It prints one line on standard output: `{"type":"listening","address":"127.0.0.1:4711","pid":123}`, or an error as
 * `{"error":{…}}` before it exits; a process that ends later because of an error prints that too, and what a person has
 * to hear meanwhile as `{"type":"warning",…}`. Its log goes to standard error.
 */
import { rmSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { EXIT, toMinikeepError, type MinikeepError } from './errors.ts';
import type { Logger } from './log.ts';

/** How Node is started for a trusted process. */
export interface TrustedNode {
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * A signal opens no debugger. Garbage of large buffers is collected early, and on request: a process that passes slices
 * on stays small. glibc (elsewhere without effect) gives large buffers back to the system when they are freed, instead
 * of keeping them.
 */
export const TRUSTED_NODE: TrustedNode = {
  flags: [
    '--disable-sigusr1',
    '--max-semi-space-size=1',
    '--expose-gc',
    // Buffers on their way count as memory of the old generation, and V8 would collect all of it after each 8 MiB of a
    // transfer: half of its processor time. Collections of the young one (collect-garbage.ts) give most of them back. With
    // more than this a coordinator that serves several nodes grows beyond 150 MiB.
    '--heap-growing-percent=80',
  ],
  env: {
    MALLOC_ARENA_MAX: '2',
    MALLOC_MMAP_THRESHOLD_: '131072',
    MALLOC_TRIM_THRESHOLD_: '131072',
  },
};

/** Ending takes milliseconds; this is the limit for engines that can't be killed and peers that don't answer. */
const STOP_TIMEOUT_MS = 10_000;

export interface RunningProcess {
  readonly address: string;
  /** Resolves when the process must end for a reason that a person has to hear. */
  readonly failed?: Promise<MinikeepError>;
  stop(reason: string): Promise<void>;
}

export interface StartedProcess {
  readonly running: RunningProcess;
  readonly endWithStdin: boolean;
  /** A folder of this process's own, removed when it ends; its parent too, when that is empty then. */
  readonly temporaryFolder: string | undefined;
}

export interface ProcessOptions {
  readonly log: Logger;
  start(): Promise<StartedProcess>;
}

/** Something that the person who started the process has to hear, though it goes on: a line of its own. */
export function warnStarter(error: MinikeepError): void {
  const { code, message, next } = error;
  process.stdout.write(`${JSON.stringify({ type: 'warning', code, message, next })}\n`);
}

/** Never returns before the process is about to exit. */
export async function runProcess(options: ProcessOptions): Promise<void> {
  const { log } = options;
  let running: RunningProcess | undefined;
  let ending = false;
  const end = (reason: string, code: number): void => {
    // A second reason to end is an order to end now.
    if (ending) process.exit(code);
    ending = true;
    const limit = setTimeout(() => process.exit(EXIT.failed), STOP_TIMEOUT_MS);
    limit.unref();
    Promise.resolve(running?.stop(reason)).then(
      () => process.exit(code),
      (error: unknown) => {
        log('error', 'stopping failed', { error: String(error) });
        process.exit(EXIT.failed);
      },
    );
  };
  const fault = (what: string) => (thrown: unknown) => {
    const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    log('error', what, { stack });
    if (!ending) end('an internal error', EXIT.failed);
  };
  process.on('uncaughtException', fault('an exception that nobody caught'));
  process.on('unhandledRejection', fault('a rejection that nobody caught'));
  process.on('SIGTERM', () => end('SIGTERM', EXIT.ok));
  process.on('SIGINT', () => end('SIGINT', EXIT.interrupted));
  process.on('SIGHUP', () => end('SIGHUP', EXIT.ok));
  // A reader that is gone must not end us in the middle of something.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
  try {
    const started = await options.start();
    running = started.running;
    const { temporaryFolder } = started;
    // Whatever the end is: in order, at the limit of it, or by a second signal.
    process.once('exit', () => removeFolder(temporaryFolder));
    if (ending) {
      await running.stop('it was ended while it started');
      return;
    }
    if (started.endWithStdin) {
      process.stdin.on('end', () => end('its starter is gone', EXIT.ok));
      process.stdin.on('error', () => end('its starter is gone', EXIT.ok));
      process.stdin.resume();
    }
    void running.failed?.then((error) => {
      log('error', 'it must end', { code: error.code, error: error.message });
      process.stdout.write(`${JSON.stringify(error.toJSON())}\n`, () =>
        end(error.message, error.exitCode),
      );
    });
    const { address } = running;
    process.stdout.write(`${JSON.stringify({ type: 'listening', address, pid: process.pid })}\n`);
  } catch (thrown) {
    const error = toMinikeepError(thrown);
    log('error', 'could not start', { code: error.code, error: error.message });
    process.stdout.write(`${JSON.stringify(error.toJSON())}\n`, () => process.exit(error.exitCode));
  }
}

/** Best effort, synchronous: the process is about to exit, and whoever started it may be doing the same. */
function removeFolder(folder: string | undefined): void {
  if (folder === undefined) return;
  try {
    rmSync(folder, { recursive: true, force: true });
    rmdirSync(path.dirname(folder));
  } catch {
    // Others still use the parent.
  }
}
