/**
 * Whether a monitor is still heard. It beats once a second; one that died, hangs or lags can't be said to see. Pure but
 * for the clock that is passed in: time in which this process itself was stopped or starved is not the monitor's
 * silence.
 */

/** How often a monitor says that it is there. */
export const BEAT_MS = 1_000;
/** Noticed, told and shown within five seconds. */
export const SILENCE_MS_MAX = 3_500;
/** Looks further apart than this say something about us, not about the monitor. */
const GAP_MS_MAX = 1_500;

export class Silence {
  readonly #now: () => number;
  #lookedMs: number;
  #silentMs = 0;

  /** `now`: monotonic milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#lookedMs = now();
  }

  heard(): void {
    this.#silentMs = 0;
    this.#lookedMs = this.#now();
  }

  /** Milliseconds without a beat. To be asked about once a second. */
  get ms(): number {
    const now = this.#now();
    this.#silentMs += Math.min(now - this.#lookedMs, GAP_MS_MAX);
    this.#lookedMs = now;
    return this.#silentMs;
  }

  get tooLong(): boolean {
    return this.ms > SILENCE_MS_MAX;
  }
}
