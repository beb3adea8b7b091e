/**
 * One sandbox with a canary in it: starts it, hands it one job at a time, and gathers what that sandbox instance
 * reported meanwhile. Which reports belong to which job is said by marks: names that can't exist, which the canary
 * opens before and after, so that the warden's own order of reports has them on either side. Where reports come late
 * and out of order (a log), there are no marks, and the job ends when the report is there or a time has passed.
 */
import { randomBytes } from 'node:crypto';
import { MinikeepError } from '@minikeep/protocol';
import type {
  Sandbox,
  SandboxExit,
  SandboxLimits,
  SandboxPlatform,
  Violation,
} from '../sandbox.ts';
import type { Facts } from './facts.ts';
import type { Evidence } from './match.ts';
import { limited } from './limited.ts';
import { lineSplitter, parseCanaryLine } from './protocol.ts';
import type { CanaryItem } from './types.ts';
import type { CanaryLine, Job, WayOutcome } from './wire.ts';

const READY_MS_MAX = 30_000;
const JOB_MS_MAX = 20_000;
const SEAL_MS_MAX = 10_000;
const EXIT_MS_MAX = 10_000;
const LAST_WORDS_MS_MAX = 500;
/** How long a report may take to come, once the attempt is over. */
export const REPORT_MS_MAX = 3_000;
const MARK_FOLDER = '/minikeep-canary-mark';

/** What a canary's sandbox may report: all of its attempts, each by itself. */
export const CANARY_LIMITS: Partial<SandboxLimits> = {
  violations_max: 20_000,
  reports_per_kind_max: 2000,
};

export interface SessionOptions {
  readonly platform: SandboxPlatform;
  readonly entry: string;
  readonly files: readonly string[];
  readonly limits?: Partial<SandboxLimits>;
  /** False where reports have no order. */
  readonly marks: boolean;
  readonly signal?: AbortSignal;
}

type Waiter = (line: CanaryLine | undefined) => void;

export class CanarySession {
  readonly sandbox: Sandbox;
  readonly violations: Violation[] = [];
  readonly #options: SessionOptions;
  readonly #nonce = randomBytes(6).toString('hex');
  #lines: CanaryLine[] = [];
  #fault: Error | undefined;
  #waiters = new Set<Waiter>();
  #watchers = new Set<() => void>();
  #exit: SandboxExit | undefined;
  #number = 0;
  /** Violations before this index belong to jobs that are over. */
  #from = 0;
  /** Reports that no job explains. */
  readonly unexplained: Violation[] = [];

  private constructor(sandbox: Sandbox, options: SessionOptions) {
    this.sandbox = sandbox;
    this.#options = options;
    const split = lineSplitter((text) => this.#said(parseCanaryLine(text)));
    sandbox.output.on('data', (chunk: Buffer) => {
      if (this.#fault !== undefined) return;
      try {
        split(chunk);
      } catch (fault) {
        this.#fault = fault as Error;
        void sandbox.kill('the canary broke its protocol');
        this.#wake();
      }
    });
    // A pipe that breaks is the end of the process, which `exited` tells.
    sandbox.output.on('error', () => undefined);
    sandbox.input.on('error', () => undefined);
    sandbox.onViolation((violation) => {
      this.violations.push(violation);
      for (const watcher of this.#watchers) watcher();
    });
    const said = new Promise<void>((resolve) => sandbox.output.once('close', resolve));
    void sandbox.exited.then(async (exit) => {
      // What it said last may still be in the pipe.
      await limited(said, LAST_WORDS_MS_MAX);
      this.#exit = exit;
      this.#wake();
    });
  }

  /** Rejects with the sandbox's own error, or `canary.timeout`, `canary.fault`. No process is left then. */
  static async start(options: SessionOptions): Promise<CanarySession> {
    options.signal?.throwIfAborted();
    const sandbox = await options.platform.launch({
      purpose: 'canary',
      entry: options.entry,
      args: [],
      files: options.files,
      limits: { ...CANARY_LIMITS, ...options.limits },
    });
    const session = new CanarySession(sandbox, options);
    try {
      const ready = await session.#next(READY_MS_MAX);
      if (ready === 'timeout') throw timeout('the canary did not start');
      if (ready?.event !== 'ready') throw session.#broken(ready);
    } catch (error) {
      await session.kill('the canary did not start');
      throw error;
    }
    session.unexplained.push(...session.#take(0, session.violations.length));
    return session;
  }

  get exit(): SandboxExit | undefined {
    return this.#exit;
  }

  async seal(): Promise<void> {
    const sealed = await limited(this.sandbox.seal(), SEAL_MS_MAX);
    if (sealed === 'timeout') throw timeout('the sandbox was not sealed');
  }

  /**
   * Tries one item. `last`: the session ends with it, so everything that was reported until the end belongs to it.
   * Without marks, waits until `enough` of the reports.
   */
  async attempt(
    item: Pick<CanaryItem, 'ways'>,
    facts: Facts,
    options: {
      readonly last?: boolean;
      readonly enough?: (violations: readonly Violation[]) => boolean;
    } = {},
  ): Promise<Evidence> {
    if (this.#exit !== undefined) return { violations: [], exit: this.#exit };
    const number = ++this.#number;
    const mark = (which: string): string => `${MARK_FOLDER}/${this.#nonce}/${number}/${which}`;
    const marks = this.#options.marks ? ([mark('begin'), mark('end')] as const) : null;
    const job: Job = { number, marks, ways: item.ways.map((way) => way.steps), facts };
    this.sandbox.input.write(`${JSON.stringify(job)}\n`);
    const answer = await this.#end(number);
    if (answer === 'timeout') {
      const exit = await this.kill('an attempt did not end in time');
      return { violations: this.#between(marks, true), exit, timed_out: true };
    }
    if (answer === undefined) {
      if (this.#fault !== undefined) throw this.#fault;
      const exit = await this.sandbox.exited;
      return { violations: this.#between(marks, true), exit };
    }
    if (options.last === true) {
      const exit = await this.finish();
      return { ways: answer, violations: this.#between(marks, true), exit };
    }
    await this.#until(() =>
      marks === null
        ? (options.enough ?? (() => true))(this.violations.slice(this.#from))
        : this.#index(marks[1]) >= 0,
    );
    return { ways: answer, violations: this.#between(marks, false) };
  }

  /** Ends the canary as it ends by itself: with its pipe. */
  async finish(): Promise<SandboxExit> {
    this.sandbox.input.end();
    const exit = await limited(this.sandbox.exited, EXIT_MS_MAX);
    return exit === 'timeout' ? this.kill('the canary did not leave') : exit;
  }

  kill(reason: string): Promise<SandboxExit> {
    return this.sandbox.kill(reason);
  }

  /** The `end` of one job; undefined when the process ended first. */
  async #end(number: number): Promise<readonly WayOutcome[] | 'timeout' | undefined> {
    for (;;) {
      const line = await this.#next(JOB_MS_MAX);
      if (line === 'timeout' || line === undefined) return line;
      if (line.event === 'fault') throw this.#broken(line);
      if (line.event === 'end' && line.number === number) return line.ways;
    }
  }

  /** Reports between the marks, or to the end; those before them are kept as unexplained. */
  #between(marks: readonly [string, string] | null, toTheEnd: boolean): Violation[] {
    const begin = marks === null ? -1 : this.#index(marks[0]);
    const end = marks === null ? -1 : this.#index(marks[1]);
    if (begin >= 0) this.unexplained.push(...this.#take(this.#from, begin));
    const until = end < 0 || toTheEnd ? this.violations.length : end + 1;
    return this.#take(this.#from, until).filter((v) => marks?.includes(v.target) !== true);
  }

  #take(from: number, until: number): Violation[] {
    this.#from = until;
    return this.violations.slice(from, until);
  }

  #index(mark: string): number {
    return this.violations.findIndex((v, i) => i >= this.#from && v.target === mark);
  }

  #said(line: CanaryLine): void {
    this.#lines.push(line);
    this.#wake();
  }

  #wake(): void {
    while (this.#waiters.size > 0) {
      const line = this.#lines.shift();
      if (line === undefined && this.#exit === undefined && this.#fault === undefined) return;
      const [waiter] = this.#waiters;
      if (waiter === undefined) return;
      this.#waiters.delete(waiter);
      waiter(line);
    }
  }

  async #next(ms: number): Promise<CanaryLine | 'timeout' | undefined> {
    const { signal } = this.#options;
    const { promise, resolve } = Promise.withResolvers<CanaryLine | undefined>();
    this.#waiters.add(resolve);
    this.#wake();
    const abort = (): void => void this.kill('interrupted');
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const line = await limited(promise, ms);
      signal?.throwIfAborted();
      return line;
    } finally {
      this.#waiters.delete(resolve);
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Waits until something holds of the reports, or their time is over, or the process is. */
  async #until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (holds()) resolve();
    };
    this.#watchers.add(look);
    await limited(Promise.race([promise, this.sandbox.exited]), REPORT_MS_MAX);
    this.#watchers.delete(look);
  }

  #broken(line: CanaryLine | undefined): MinikeepError {
    const why =
      line?.event === 'fault'
        ? line.message
        : `it ended (${this.#exit?.reason || (this.#exit?.signal ?? `code ${this.#exit?.code}`)}) ${this.#exit?.stderr_tail ?? ''}`;
    return new MinikeepError('canary.fault', `the canary can't work: ${why.trim()}`, {
      next: 'Build again with `npm run build`; if it stays, report it as a fault in minikeep.',
      ...(this.#fault === undefined ? {} : { cause: this.#fault }),
    });
  }
}

function timeout(what: string): MinikeepError {
  return new MinikeepError('canary.timeout', `${what} in time`, {
    next: 'Try again when the machine is less busy.',
  });
}
