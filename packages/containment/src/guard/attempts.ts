/**
 * What a guard writes down: as a warden does (the first ones of a kind in full, then counts), but for a process that
 * runs for months: after each window there is room again.
 */
import type { GuardedProcess, Violation } from '../sandbox.ts';
import type { Attempt } from '../warden/attempt.ts';
import { Recorder } from '../warden/recorder.ts';
import { REPORTS_PER_KIND_MAX, WINDOW_MS } from './limits.ts';

const LIMITS = { violations_max: Infinity, reports_per_kind_max: REPORTS_PER_KIND_MAX };

export interface AttemptsOptions {
  readonly instance: string;
  readonly purpose: GuardedProcess;
  /** Unix seconds. */
  readonly now: () => number;
  /** Monotonic, milliseconds. */
  readonly monotonicMs: () => number;
  readonly report: (violation: Violation) => void;
}

export class Attempts {
  readonly #options: AttemptsOptions;
  #recorder: Recorder;
  #windowMs: number;
  #sequence = 0;

  constructor(options: AttemptsOptions) {
    this.#options = options;
    this.#recorder = this.#fresh();
    this.#windowMs = options.monotonicMs();
  }

  record(attempt: Attempt, refusedBy?: Violation['refused_by']): void {
    const { violation } = this.#recorder.record(attempt, refusedBy);
    if (violation !== undefined) this.#report(violation);
  }

  /** To be called every FOLD_MS: tells what was only counted, and opens the next window when it is time. */
  tick(): void {
    const over = this.#options.monotonicMs() - this.#windowMs >= WINDOW_MS;
    for (const violation of this.#recorder.flush(over ? 'end' : 'pause')) this.#report(violation);
    if (!over) return;
    this.#recorder = this.#fresh();
    this.#windowMs = this.#options.monotonicMs();
  }

  /** What was only counted so far. */
  end(): void {
    for (const violation of this.#recorder.flush('end')) this.#report(violation);
  }

  #fresh(): Recorder {
    const { instance, purpose, now } = this.#options;
    return new Recorder(instance, purpose, LIMITS, now, 'guard');
  }

  /** Counts up for the guard's whole life, whatever the window. */
  #report(violation: Violation): void {
    this.#options.report({ ...violation, sequence: ++this.#sequence });
  }
}
