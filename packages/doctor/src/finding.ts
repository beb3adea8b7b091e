/** One finding: what is so, how bad it is, and what mends it. */

/** `blocks`: a node can't work here like this. `note`: nothing is wrong, but it is good to know. */
export type Level = 'ok' | 'note' | 'warning' | 'blocks';

export interface Finding {
  /** Stable: scripts rely on it. */
  readonly id: string;
  readonly level: Level;
  readonly what: string;
  /** What to do; empty when there is nothing to do. */
  readonly next: string;
}

export const finding = (id: string, level: Level, what: string, next = ''): Finding => ({
  id,
  level,
  what,
  next,
});
