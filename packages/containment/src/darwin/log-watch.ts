/**
 * Keeps `log stream` running beside one engine and says whether it sees. That a process runs proves nothing: a refusal
 * of our own making (a trial) must come through it, at the start and again from time to time. Whatever breaks that,
 * a lost message, an end, a trial that is not seen, makes the watch blind; blind is never taken back, since what
 * happened meanwhile stays unknown.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Commands } from './commands.ts';
import {
  LOG_DELAY_MS_MAX,
  LOG_RESTARTS_MAX,
  LOG_START_MS_MAX,
  TRIAL_EVERY_MS,
  TRIAL_PAUSE_MS,
  TRIALS_MAX,
} from './limits.ts';
import { guard } from './guard.ts';
import { escaped, LOG_COMMAND, LogLines, type LogFinding } from './log-reader.ts';

export type Refusal = Extract<LogFinding, { type: 'refusal' }>;

/** Time, passed in. */
export interface Clock {
  sleep(ms: number): Promise<void>;
}
export const SYSTEM_CLOCK: Clock = {
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref()),
};

export interface LogWatchOptions {
  readonly commands: Commands;
  readonly clock?: Clock;
  /** The engine's. */
  readonly tag: string;
  readonly onRefusal: (refusal: Refusal) => void;
  /** Once, when it becomes blind. */
  readonly onBlind: (why: string) => void;
}

const STDERR_CHARACTERS_MAX = 200;
/** A file that everyone may read: only the trial's own profile refuses it. */
const TRIAL_FILE = '/private/etc/hosts';

export const newTag = (): string => `mk-${randomBytes(16).toString('hex')}`;

/** Refuses one thing, reports it with its tag, and allows everything else. */
export const trialProfile = (tag: string): string =>
  `(version 1)\n(allow default)\n(deny file-read-data (literal "${TRIAL_FILE}") (with message "${tag}"))\n`;

export class LogWatch {
  readonly #options: LogWatchOptions;
  readonly #clock: Clock;
  readonly #trialTag = newTag();
  #child: ChildProcess | undefined;
  #blind = '';
  #closed = false;
  #restarts = 0;
  #trialsSeen = 0;
  #wake: () => void = () => undefined;

  constructor(options: LogWatchOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** Why attempts may go unseen; empty while it sees. */
  get blind(): string {
    return this.#blind;
  }

  /** Resolves when it sees, or is blind. */
  async start(): Promise<void> {
    await this.#listen();
    await this.trial();
    void this.#again();
  }

  /** A refusal of our own must come through, in one of a few tries: a burst may have hidden the others. */
  async trial(): Promise<boolean> {
    const { commands } = this.#options;
    const seen = this.#trialsSeen;
    let went = false;
    for (let tries = 0; tries < TRIALS_MAX && !this.#closed; tries += 1) {
      if (tries > 0) await this.#clock.sleep(TRIAL_PAUSE_MS * tries);
      const { code } = await commands.run(commands.sandboxExec, [
        '-p',
        trialProfile(this.#trialTag),
        commands.cat,
        TRIAL_FILE,
      ]);
      went ||= code !== 0;
      if (await this.#seen(seen)) return true;
      if (this.#child === undefined) break;
    }
    if (!this.#closed)
      this.#isBlind(
        went
          ? 'a refusal of our own was not in the log'
          : 'a trial that must be refused was not refused',
      );
    return false;
  }

  close(): void {
    this.#closed = true;
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
    this.#wake();
  }

  async #seen(before: number): Promise<boolean> {
    if (this.#trialsSeen > before) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await Promise.race([promise, this.#clock.sleep(LOG_DELAY_MS_MAX)]);
    return this.#trialsSeen > before;
  }

  async #again(): Promise<void> {
    while (!this.#closed) {
      await this.#clock.sleep(TRIAL_EVERY_MS);
      if (this.#closed || this.#child === undefined) return;
      await this.trial();
    }
  }

  /** Resolves with the first thing that `log stream` says, which is that it listens, or when it has ended. */
  async #listen(): Promise<void> {
    const { commands, tag } = this.#options;
    const [, ...args] = LOG_COMMAND;
    const child = commands.start(commands.log, args, ['ignore', 'pipe', 'pipe']);
    this.#child = child;
    // `log` notices that nobody reads only when it has something to say.
    if (child.pid !== undefined) guard(commands, child, () => child.kill('SIGKILL'));
    const { promise: listening, resolve } = Promise.withResolvers<void>();
    const ours = new LogLines(tag, (finding) =>
      finding.type === 'blind' ? this.#isBlind(finding.why) : this.#options.onRefusal(finding),
    );
    const trials = new LogLines(this.#trialTag, (finding) => {
      if (finding.type !== 'refusal') return;
      this.#trialsSeen += 1;
      this.#wake();
    });
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      resolve();
      ours.push(chunk);
      trials.push(chunk);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(0, STDERR_CHARACTERS_MAX);
    });
    const ended = (how: string): void => {
      resolve();
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#isBlind(
        `log stream ended (${how})${stderr === '' ? '' : `: ${escaped(stderr.trim())}`}`,
      );
      this.#wake();
      // It is blind for good, but what comes from now on is worth having.
      if (this.#closed || this.#restarts >= LOG_RESTARTS_MAX) return;
      this.#restarts += 1;
      void this.#clock.sleep(TRIAL_PAUSE_MS * this.#restarts).then(() => {
        if (!this.#closed) return this.#listen();
        return undefined;
      });
    };
    child.once('error', (error) => ended(error.message));
    child.once('close', (code, signal) => ended(signal ?? `code ${code}`));
    await Promise.race([listening, this.#clock.sleep(LOG_START_MS_MAX)]);
  }

  #isBlind(why: string): void {
    if (this.#blind !== '' || this.#closed) return;
    this.#blind = why;
    this.#options.onBlind(why);
  }
}
