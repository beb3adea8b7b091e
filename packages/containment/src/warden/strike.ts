/**
 * When a violation is the engine's last one (pure: the clock is passed in). What aims outside, at programs, at files to
 * write or at whoever watches ends it at once; so that the record says where to, an attempt on the network may be played
 * out before, for as long as a decoy lasts. Other denials are recorded, and that is all.
 */
import type { StrikePolicy, ViolationKind } from '../sandbox.ts';
import type { Attempt } from './attempt.ts';

const GRAVE: ReadonlySet<ViolationKind> = new Set(['network', 'dns', 'exec', 'write', 'monitor']);

/** From the first call on, whatever the engine does with its decoy. */
export const GRACE_MS_MAX = 2_000;

export type Verdict = 'record' | 'strike';

export class Strike {
  readonly #policy: StrikePolicy;
  readonly #now: () => number;
  #pending: { readonly attempt: Attempt; readonly untilMs: number } | undefined;

  /** `now`: monotonic, milliseconds. */
  constructor(policy: StrikePolicy, now: () => number) {
    this.#policy = policy;
    this.#now = now;
  }

  /** An attempt that is played out, and what became of it is not known yet. */
  get pending(): Attempt | undefined {
    return this.#pending?.attempt;
  }

  on(attempt: Attempt): Verdict {
    if (this.#policy === 'record' || !GRAVE.has(attempt.kind)) return 'record';
    if (attempt.played !== true) return 'strike';
    this.#pending ??= { attempt, untilMs: this.#now() + GRACE_MS_MAX };
    return this.due() ? 'strike' : 'record';
  }

  /** The time of what is played out is over. To be asked again and again. */
  due(): boolean {
    return this.#pending !== undefined && this.#now() >= this.#pending.untilMs;
  }
}
