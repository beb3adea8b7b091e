/**
 * How long a start may take. A machine with too much to do is slow, and that is no failure; a start that hangs is one.
 * They are told apart by what the processes do: one that hangs sleeps, one that starves wants a processor. So only the
 * time in which nothing was reported and every process of the start slept counts as silence; all of it together has
 * a generous limit, too. Pure: the clock and the look at the processes are passed in.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface PatienceLimits {
  readonly silence_ms_max: number;
  readonly total_ms_max: number;
}

/** How often the driver of a wait looks. */
export const LOOK_MS = 500;
/** Looks further apart than this: we ourselves were stopped or starved, and saw nothing of what went on. */
const GAP_MS_MAX = 2 * LOOK_MS;

export type Verdict = 'wait' | 'silent' | 'too long';

export class Patience {
  readonly limits: PatienceLimits;
  readonly #asleep: (pid: number) => boolean;
  #pids: readonly number[] = [];
  #last: number;
  #silence = 0;
  #total = 0;

  /** `now` in monotonic milliseconds. `asleep`: no thread of the process wants a processor or waits for a disk. */
  constructor(limits: PatienceLimits, now: number, asleep: (pid: number) => boolean = isAsleep) {
    this.limits = limits;
    this.#last = now;
    this.#asleep = asleep;
  }

  /** Something went on. `pid`: a process that is also waited for from now on. */
  progress(pid?: number): void {
    this.#silence = 0;
    if (pid !== undefined && !this.#pids.includes(pid)) this.#pids = [...this.#pids, pid];
  }

  /** To be asked every LOOK_MS. */
  look(now: number): Verdict {
    const passed = Math.min(now - this.#last, GAP_MS_MAX);
    this.#last = now;
    this.#total += passed;
    if (this.#pids.every((pid) => this.#asleep(pid))) this.#silence += passed;
    if (this.#silence >= this.limits.silence_ms_max) return 'silent';
    return this.#total >= this.limits.total_ms_max ? 'too long' : 'wait';
  }
}

/** False while a thread runs, waits for a processor or for a disk. True where that can't be seen (macOS). */
export function isAsleep(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((tid) => {
      const stat = readFileSync(`/proc/${pid}/task/${tid}/stat`, 'latin1');
      return !/^[RD]/.test(stat.slice(stat.lastIndexOf(')') + 2));
    });
  } catch {
    return true; // gone between two looks, or no /proc
  }
}
