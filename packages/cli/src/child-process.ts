/** One child of a local cluster: started, awaited until it listens, ended in order or at once. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { GuardedProcess } from '@minikeep/containment';
import type { GuardWish } from '@minikeep/containment/guard';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import { trustedCommand } from './trusted-command.ts';

const START_TIMEOUT_MS = 30_000;
/** Longer than the child's own limit for ending. */
const STOP_TIMEOUT_MS = 12_000;
const LOG_LENGTH_MAX = 64 * 1024;
const REPORT_LENGTH_MAX = 64 * 1024;

/** It has its own way to those whom it concerns: the process hears of it, too. */
const GUARDS_LINE = /^\{"type":"(?:warning|violation)"/;

const Report = z.union([
  z.object({ type: z.literal('listening'), address: z.string(), pid: z.number() }),
  z.object({ error: z.object({ code: z.string(), message: z.string(), next: z.string() }) }),
]);

export class ChildProcess {
  readonly name: string;
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #exited: Promise<void>;
  #stdout = '';
  #log = '';

  /** `guard`: what it may do beyond its connect list; absent: it runs without one. */
  constructor(
    name: string,
    purpose: GuardedProcess,
    program: string,
    programArgs: readonly string[],
    guard: GuardWish | undefined,
  ) {
    this.name = name;
    const { args, env } = trustedCommand(purpose, program, programArgs, guard);
    this.#process = spawn(process.execPath, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env,
    });
    this.#exited = new Promise((resolve) => {
      this.#process.once('exit', () => resolve());
      this.#process.once('error', () => resolve());
    });
    // Node gives no pipes, and its reason a moment later, when this process has no descriptors left for them.
    if ((this.#process.stdin as Writable | undefined) === undefined) throw noDescriptors();
    this.#process.stdin.on('error', () => {});
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log = (this.#log + text).slice(-LOG_LENGTH_MAX);
    });
  }

  /** The end of what it logged. */
  get log(): string {
    return this.#log;
  }

  /** Resolves when it says where it listens. Throws its own error, `local.start_failed`, or the signal's reason. */
  async listening(signal?: AbortSignal): Promise<{ address: string; pid: number }> {
    let timer: NodeJS.Timeout | undefined;
    let abort = (): void => {};
    try {
      const line = await new Promise<string>((resolve, reject) => {
        abort = () => reject(signal?.reason as Error);
        if (signal?.aborted === true) abort();
        signal?.addEventListener('abort', abort, { once: true });
        timer = setTimeout(() => reject(this.#startFailed('it took too long')), START_TIMEOUT_MS);
        this.#process.stdout.setEncoding('utf8').on('data', (text: string) => {
          this.#stdout = (this.#stdout + text).slice(0, REPORT_LENGTH_MAX);
          const line = this.#firstReport();
          if (line !== undefined) resolve(line);
        });
        this.#process.stdout.once('end', () => reject(this.#startFailed('it ended')));
        this.#process.once('error', (error) => reject(this.#startFailed(error.message)));
      });
      return this.#report(line);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Closes its input, which ends it; kills it when that takes too long. */
  async stop(): Promise<void> {
    this.#process.stdin.end();
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  /** A guard may have something to say before. */
  #firstReport(): string | undefined {
    for (let end = this.#stdout.indexOf('\n'); end >= 0; end = this.#stdout.indexOf('\n')) {
      const line = this.#stdout.slice(0, end);
      this.#stdout = this.#stdout.slice(end + 1);
      if (!GUARDS_LINE.test(line)) return line;
      this.#log = `${this.#log}${line}\n`.slice(-LOG_LENGTH_MAX);
    }
    return undefined;
  }

  #report(line: string): { address: string; pid: number } {
    let parsed;
    try {
      parsed = Report.safeParse(JSON.parse(line));
    } catch {
      throw this.#startFailed('it said something else than where it listens');
    }
    if (!parsed.success) throw this.#startFailed('it said something else than where it listens');
    if (!('error' in parsed.data)) return parsed.data;
    const { code, message, next } = parsed.data.error;
    throw new MinikeepError(code, `${this.name}: ${message}`, { next });
  }

  #startFailed(why: string): MinikeepError {
    const last = this.#log.trimEnd().split('\n').at(-1) ?? '';
    return new MinikeepError(
      'local.start_failed',
      `the process of ${this.name} did not start: ${why}${last === '' ? '' : ` (${last.slice(0, 500)})`}`,
      { next: 'Run `npm run build`, then try again.' },
    );
  }
}

const noDescriptors = (): MinikeepError =>
  toMinikeepError(Object.assign(new Error('spawn EMFILE'), { code: 'EMFILE' }));
