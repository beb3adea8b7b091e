/**
 * Counts threads before they exist. A clone that was let go on shows in /proc only when the kernel has done it; an
 * engine whose threads all ask at once would get twice its number if only what shows were counted. A thread that asks
 * something again has its clone behind it, so at most one start is open for each thread.
 */

/** A start that shows nothing for so long has failed, or its thread asks nothing more: it counts no longer. */
export const OPEN_START_MS_MAX = 1_000;

export interface ThreadGateOptions {
  readonly threads_max: number;
  /** Threads that the kernel shows. */
  readonly live: () => number;
  /** Monotonic, milliseconds. */
  readonly now: () => number;
}

export class ThreadGate {
  readonly #o: ThreadGateOptions;
  /** By the asking thread: when its clone was let go on. */
  #open = new Map<number, number>();

  constructor(options: ThreadGateOptions) {
    this.#o = options;
  }

  /** To be told of everything that a thread asks, before it is decided. */
  asked(tid: number): void {
    this.#open.delete(tid);
  }

  /** True: the thread may start another, and this one is counted from now on. */
  mayStart(tid: number): boolean {
    const now = this.#o.now();
    for (const [other, since] of this.#open)
      if (now - since > OPEN_START_MS_MAX) this.#open.delete(other);
    if (this.#o.live() + this.#open.size >= this.#o.threads_max) return false;
    this.#open.set(tid, now);
    return true;
  }
}
