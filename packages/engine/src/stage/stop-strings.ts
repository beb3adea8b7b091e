/** Finds stop strings in a text that arrives in pieces, and lets nothing out that may still become part of one. */

export interface StopResult {
  /** Text that is safe to show. */
  readonly text: string;
  readonly stopped: boolean;
}

export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== '');
  }

  /** The text before the earliest stop string, or all that cannot begin one. */
  push(text: string): StopResult {
    const all = this.#held + text;
    const found = this.#stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.#held = '';
      return { text: all.slice(0, Math.min(...found)), stopped: true };
    }
    const held = this.#longestBeginning(all);
    this.#held = held === 0 ? '' : all.slice(-held);
    return { text: held === 0 ? all : all.slice(0, -held), stopped: false };
  }

  /** The answer is over: what was held back was no stop string after all. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** Length of the longest end of `text` that a stop string begins with. */
  #longestBeginning(text: string): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--)
        if (text.endsWith(stop.slice(0, n))) longest = n;
    return longest;
  }
}
