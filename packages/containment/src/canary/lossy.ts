/**
 * Trying again where the monitor loses reports. A refusal that nobody saw is tried again, paced, so that a burst is
 * over by then; what is still unseen after that leaves the canary blind. What was NOT refused is never tried again:
 * one way out is one too many. Pure but for the pause, which is passed in.
 */

/** How often an unreported item is tried, and the pause before each next try, milliseconds (times its number). */
export const LOSSY_TRIES_MAX = 5;
export const LOSSY_PAUSE_MS = 300;
/** After so many items that stayed unseen the log is taken for dead, and each further one is tried once. */
export const UNSEEN_ITEMS_MAX = 5;

export interface Seen {
  readonly refused: boolean;
  readonly reported: boolean;
}

export class LossyTries {
  readonly #pause: (ms: number) => Promise<void>;
  #unseen = 0;

  constructor(pause: (ms: number) => Promise<void>) {
    this.#pause = pause;
  }

  /** The last outcome, and how many tries it took. `over`: the process has ended, and there is nothing to try with. */
  async run<T extends Seen>(
    attempt: () => Promise<T>,
    over: () => boolean,
  ): Promise<{ readonly outcome: T; readonly tries: number }> {
    const most = this.#unseen < UNSEEN_ITEMS_MAX ? LOSSY_TRIES_MAX : 1;
    let outcome = await attempt();
    let tries = 1;
    while (outcome.refused && !outcome.reported && tries < most && !over()) {
      await this.#pause(LOSSY_PAUSE_MS * tries);
      outcome = await attempt();
      tries += 1;
    }
    if (outcome.refused && !outcome.reported) this.#unseen += 1;
    return { outcome, tries };
  }
}
