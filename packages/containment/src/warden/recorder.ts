/**
 * Decides what of a stream of attempts is written down: the first ones of each kind in full, then counters, so that
 * an engine can't write to the disk at will by being refused. Pure: the clock is passed in.
 */
import { DEFAULT_SANDBOX_LIMITS, type SandboxLimits, type Violation } from '../sandbox.ts';
import type { Attempt } from './attempt.ts';
import { RECORD_BYTES_MAX, TEXT_CHARACTERS_MAX } from './limits.ts';

export type RecorderLimits = Pick<SandboxLimits, 'violations_max' | 'reports_per_kind_max'>;

/** Bytes of records of one instance: grows for a canary, which asks for more records than an engine gets. */
export const recordBytesMax = ({ reports_per_kind_max }: RecorderLimits): number =>
  RECORD_BYTES_MAX *
  Math.max(1, reports_per_kind_max / DEFAULT_SANDBOX_LIMITS.reports_per_kind_max);

interface Tally {
  readonly attempt: Attempt;
  lines: number;
  /** Seen since the last line. */
  folded: number;
  total: number;
}

export interface Recorded {
  /** To be sent; absent when it was only counted. */
  readonly violation?: Violation;
  /** The limit is reached: the engine is to be stopped. */
  readonly stop: boolean;
}

export type RefusedBy = Violation['refused_by'];

export class Recorder {
  readonly #instance: string;
  readonly #purpose: Violation['purpose'];
  readonly #limits: RecorderLimits;
  readonly #now: () => number;
  readonly #by: 'warden' | 'guard';
  #tallies = new Map<string, Tally>();
  #sequence = 0;
  #bytes = 0;
  #total = 0;

  /** `now` in Unix seconds. */
  constructor(
    instance: string,
    purpose: Violation['purpose'],
    limits: RecorderLimits,
    now: () => number,
    by: 'warden' | 'guard' = 'warden',
  ) {
    this.#instance = instance;
    this.#purpose = purpose;
    this.#limits = limits;
    this.#now = now;
    this.#by = by;
  }

  get total(): number {
    return this.#total;
  }

  /** `last`: the process is stopped because of it, so it is told whatever was told before. */
  record(attempt: Attempt, refusedBy: RefusedBy = this.#by, last = false): Recorded {
    this.#total++;
    const key = `${attempt.kind} ${attempt.operation}`;
    const tally = this.#tallies.get(key) ?? { attempt, lines: 0, folded: 0, total: 0 };
    this.#tallies.set(key, tally);
    tally.total++;
    const stop = last || this.#total >= this.#limits.violations_max;
    const room =
      tally.lines < this.#limits.reports_per_kind_max && this.#bytes < recordBytesMax(this.#limits);
    if (!room && !stop) {
      tally.folded++;
      return { stop };
    }
    tally.lines++;
    const violation = this.#violation(attempt, refusedBy, 1, stop);
    this.#bytes += JSON.stringify(violation).length + 1;
    return { violation, stop };
  }

  /**
   * What was only counted since, one record a kind, without a target. A pause's records count as all others do, and
   * when there is no more room for them only the end says how many there were.
   */
  flush(when: 'pause' | 'end'): Violation[] {
    if (when === 'pause' && this.#bytes >= recordBytesMax(this.#limits)) return [];
    const folded = [...this.#tallies.values()].filter((tally) => tally.folded > 0);
    return folded.map((tally) => {
      const count = tally.folded;
      tally.folded = 0;
      const violation = this.#violation({ ...tally.attempt, target: '' }, this.#by, count, false);
      this.#bytes += JSON.stringify(violation).length + 1;
      return violation;
    });
  }

  #violation(attempt: Attempt, refusedBy: RefusedBy, count: number, stopped: boolean): Violation {
    return {
      sequence: ++this.#sequence,
      instance: this.#instance,
      purpose: this.#purpose,
      at_seconds: this.#now(),
      kind: attempt.kind,
      operation: attempt.operation,
      target: attempt.target.slice(0, TEXT_CHARACTERS_MAX),
      ...(attempt.thread === undefined ? {} : { thread: attempt.thread }),
      ...(attempt.payload_bytes === undefined ? {} : { payload_bytes: attempt.payload_bytes }),
      refused_by: refusedBy,
      seen_by: [this.#by],
      count,
      stopped,
    };
  }
}
