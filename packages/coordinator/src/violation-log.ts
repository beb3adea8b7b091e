/** Refused attempts of all nodes: the latest ones kept, new ones passed on to those who follow. */
import { EventQueue } from '@minikeep/protocol';
import type { Violation, ViolationsResponse } from '@minikeep/protocol/v1';

const KEPT_MAX = 10_000;
const FOLLOWER_QUEUE_MAX = 10_000;
/** An agent's own limits are lower; one that was taken over has none. */
const TEXT_LENGTH_MAX = 1_000;
const SEEN_BY_MAX = 16;

/** What a node reports, as its own and of bounded size: no node may accuse another, or fill our memory. */
export function reportedBy(node: string, violation: Violation): Violation {
  const cut = (text: string): string => text.slice(0, TEXT_LENGTH_MAX);
  return {
    ...violation,
    node,
    deployment: cut(violation.deployment),
    instance: cut(violation.instance),
    purpose: cut(violation.purpose),
    kind: cut(violation.kind),
    operation: cut(violation.operation),
    target: cut(violation.target),
    targetDigest: cut(violation.targetDigest),
    number: 0,
    refusedBy: cut(violation.refusedBy),
    seenBy: violation.seenBy.slice(0, SEEN_BY_MAX).map(cut),
  };
}

export class ViolationLog {
  readonly #kept: Violation[] = [];
  readonly #followers = new Set<EventQueue<ViolationsResponse>>();
  /** By node: what is no longer kept counts too. */
  readonly #totals = new Map<string, number>();
  #total = 0;
  #keep: ((violation: Violation) => void) | undefined;

  /** Attempts so far, folded ones counted singly. */
  get total(): number {
    return this.#total;
  }

  #count({ node, count }: Violation): void {
    this.#total += count;
    this.#totals.set(node, this.totalOf(node) + count);
  }

  totalOf(node: string): number {
    return this.#totals.get(node) ?? 0;
  }

  add(violation: Violation): void {
    this.#count(violation);
    if (this.#keep === undefined) this.tell(violation);
    else this.#keep(violation);
  }

  /** Whoever keeps them calls `tell` then. */
  keepBy(keep: (violation: Violation) => void): void {
    this.#keep = keep;
  }

  /** Those of before, the oldest first. */
  load(violations: readonly Violation[]): void {
    for (const violation of violations) {
      this.#count(violation);
      this.#kept.push(violation);
    }
  }

  /** Shown from now on. */
  tell(violation: Violation): void {
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
    if (signal.aborted) stop();
    try {
      for (const violation of soFar) yield { violation };
      if (follow) yield* queue;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#followers.delete(queue);
    }
  }
}
