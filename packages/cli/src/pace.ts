/** Holds a stream of text to a speed at which a person can read along. */
import { setTimeout as sleepFor } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds since whenever. */
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const REAL: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) => sleepFor(ms, undefined, { signal }),
};

export class Pace {
  readonly #intervalMs: number;
  readonly #clock: Clock;
  #next = -Infinity;

  constructor(intervalMs: number, clock = REAL) {
    this.#intervalMs = intervalMs;
    this.#clock = clock;
  }

  /** Resolves when the next piece may be shown: no sooner than the interval after the one before. Rejects if aborted. */
  async turn(signal: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    if (now < this.#next) await this.#clock.sleep(this.#next - now, signal);
    // A late piece is no reason to hurry with those after it.
    this.#next = Math.max(now, this.#next) + this.#intervalMs;
  }
}
