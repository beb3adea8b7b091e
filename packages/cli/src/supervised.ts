/**
 * A daemon of this node under `minikeep start`: started, started again when it dies, ended in order. It ends when its
 * standard input does, so that it never outlives whoever started it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setTimeout as setTimer } from 'node:timers/promises';
import type { GuardedProcess } from '@minikeep/containment';
import type { GuardWish } from '@minikeep/containment/guard';
import { EXIT, MinikeepError, type ExitCode } from '@minikeep/protocol';
import { z } from 'zod';
import { trustedCommand } from './trusted-command.ts';

const RESTART_MS_MIN = 500;
const RESTART_MS_MAX = 30_000;
/** One that ran for so long was well: the next restart is at once. */
const WELL_MS = 60_000;
/** Longer than the child's own limit for ending. */
const STOP_TIMEOUT_MS = 12_000;
const LINE_LENGTH_MAX = 64 * 1024;

const REPORT = z.union([
  z.object({ type: z.literal('warning'), code: z.string(), message: z.string(), next: z.string() }),
  z.object({ type: z.literal('listening'), address: z.string(), pid: z.number() }),
  // From the guard itself: a process that was turned can keep its own back, but not this.
  z.object({
    type: z.literal('violation'),
    violation: z.object({ kind: z.string(), count: z.number() }),
  }),
  z.object({
    error: z.object({ code: z.string(), message: z.string(), next: z.string().default('') }),
  }),
]);

export interface DaemonOptions {
  readonly name: GuardedProcess;
  /** Absent: nothing holds it to a connect list. */
  readonly guard: GuardWish | undefined;
  /** A file in dist/, with its arguments. */
  readonly program: string;
  readonly config: { readonly file: string; readonly content: object };
  onListening(address: string, pid: number, again: boolean): void;
  /** It died and is started again. */
  onDied(why: string): void;
  /** It tried what is not on its connect list. Where to, only the record says: the text may carry a prompt. */
  onRefused(violation: { readonly kind: string; readonly count: number }): void;
  /** It goes on, and a person has to hear of it. */
  onWarning(error: MinikeepError): void;
  onLog(text: string): void;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  readonly #fatal = Promise.withResolvers<never>();
  readonly #listening = Promise.withResolvers<void>();
  #child: ChildProcess | undefined;
  #listened = false;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#fatal.promise.catch(() => {});
    this.#ended = this.#run();
  }

  /** Rejects with the error that made it end for good. */
  get fatal(): Promise<never> {
    return this.#fatal.promise;
  }

  /** Resolves when it listens for the first time; never, where it doesn't. */
  get listening(): Promise<void> {
    return this.#listening.promise;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#child?.stdin?.end();
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let waitMs = RESTART_MS_MIN;
    while (!signal.aborted) {
      const begun = performance.now();
      const { error, code, why } = await this.#once();
      if (signal.aborted) return;
      // What it says of itself at its first start is for the person who starts it; later only what no restart mends.
      if (error !== undefined && (!this.#listened || code === EXIT.denied)) {
        this.#fatal.reject(error);
        return;
      }
      if (performance.now() - begun > WELL_MS) waitMs = RESTART_MS_MIN;
      this.#options.onDied(error?.message ?? why);
      await setTimer(waitMs, undefined, { signal }).catch(() => {});
      waitMs = Math.min(RESTART_MS_MAX, waitMs * 2);
    }
  }

  async #once(): Promise<{ error: MinikeepError | undefined; code: number | null; why: string }> {
    const { program, config, name, guard } = this.#options;
    writeFileSync(config.file, JSON.stringify(config.content), { mode: 0o600 });
    const { args, env } = trustedCommand(name, program, ['--home', config.file], guard);
    const child = spawn(process.execPath, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Ctrl-C reaches only us, and we end it in order.
      detached: true,
      env,
    });
    this.#child = child;
    child.stdin.on('error', () => {});
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.#options.onLog(text));
    let error: MinikeepError | undefined;
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      rest = (rest + text).slice(-LINE_LENGTH_MAX);
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) error = this.#report(line) ?? error;
    });
    if (this.#stop.signal.aborted) child.stdin.end();
    const ended = Promise.withResolvers<{ code: number | null; why: string }>();
    child.once('error', (cause) =>
      ended.resolve({ code: null, why: `it can't be started: ${cause.message}` }),
    );
    child.once('close', (code, signal) =>
      ended.resolve({
        code,
        why: signal === null ? `${name} ended with ${code}` : `${name} was ended by ${signal}`,
      }),
    );
    return { ...(await ended.promise), error };
  }

  #report(line: string): MinikeepError | undefined {
    let document: unknown;
    try {
      document = JSON.parse(line);
    } catch {
      return undefined;
    }
    const parsed = REPORT.safeParse(document);
    if (!parsed.success) return undefined;
    if ('type' in parsed.data && parsed.data.type === 'warning') {
      const { code, message, next } = parsed.data;
      this.#options.onWarning(new MinikeepError(code, message, { next }));
      return undefined;
    }
    if ('type' in parsed.data && parsed.data.type === 'violation') {
      this.#options.onRefused(parsed.data.violation);
      return undefined;
    }
    if ('error' in parsed.data) {
      const { code, message, next } = parsed.data.error;
      return new MinikeepError(code, message, { next, exitCode: exitOf(document) });
    }
    this.#options.onListening(parsed.data.address, parsed.data.pid, this.#listened);
    this.#listened = true;
    this.#listening.resolve();
    return undefined;
  }
}

/** A daemon's errors are printed without their exit code; those that deny say so by what they are about. */
function exitOf(document: unknown): ExitCode {
  const code = (document as { error: { code: string } }).error.code;
  return /^(node\.(cloned|removed)|access\.|certificate\.)/.test(code) ? EXIT.denied : EXIT.failed;
}
