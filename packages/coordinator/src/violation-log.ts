/** Refused attempts of all nodes: the latest ones kept, new ones passed on to those who follow. */
import { EventQueue } from '@minikeep/protocol';
import type { Violation, ViolationsResponse } from '@minikeep/protocol/v1';

const KEPT_MAX = 10_000;
const FOLLOWER_QUEUE_MAX = 10_000;

export class ViolationLog {
  readonly #kept: Violation[] = [];
  readonly #followers = new Set<EventQueue<ViolationsResponse>>();
  #total = 0;

  /** Attempts so far, folded ones counted singly. */
  get total(): number {
    return this.#total;
  }

  totalOf(node: string): number {
    return this.#kept.reduce((sum, v) => sum + (v.node === node ? v.count : 0), 0);
  }

  add(violation: Violation): void {
    this.#total += violation.count;
    this.#kept.push(violation);
    if (this.#kept.length > KEPT_MAX) this.#kept.shift();
    for (const follower of this.#followers) follower.push({ violation });
  }

  async *stream(follow: boolean, signal: AbortSignal): AsyncGenerator<ViolationsResponse> {
    const queue = new EventQueue<ViolationsResponse>(FOLLOWER_QUEUE_MAX);
    // Before the first is read: nothing that happens meanwhile is lost or told twice.
    const soFar = [...this.#kept];
    if (follow) this.#followers.add(queue);
    const stop = (): void => queue.end();
    signal.addEventListener('abort', stop);
    try {
      for (const violation of soFar) yield { violation };
      if (follow) yield* queue;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#followers.delete(queue);
    }
  }
}
