/**
 * Brings refused attempts into the event log: in batches, so that many cost one transaction, and of each node no more
 * than fit in. A flood becomes counts; nothing of it is lost but the details. Pure but for the timer and what keeps.
 */
import type { Violation } from '@minikeep/protocol/v1';

const FLUSH_MS = 200;
/** Of one node at once, and then each second. */
const BURST_MAX = 200;
const PER_SECOND = 10;
const BATCH_MAX = 500;
/** While nothing can be kept: then the oldest are folded, too. */
const WAITING_MAX = 5_000;

export interface KeeperOptions {
  /** All or nothing; returns the number of each event. Throws when they can't be kept. */
  readonly keep: (batch: readonly Violation[]) => readonly number[];
  /** Each that is kept, with its number; and those that are only counted, folded. */
  readonly onKept: (violation: Violation) => void;
  /** It could not be kept, or can be again (undefined). */
  readonly onFault: (fault: unknown) => void;
  /** Monotonic, milliseconds. */
  readonly now: () => number;
}

interface Node {
  room: number;
  refilledMs: number;
  /** By kind and operation. */
  readonly folded: Map<string, Violation>;
}

export class ViolationKeeper {
  readonly #options: KeeperOptions;
  readonly #nodes = new Map<string, Node>();
  #waiting: Violation[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  add(violation: Violation): void {
    const node = this.#nodeOf(violation.node);
    if (this.#waiting.length < WAITING_MAX && this.#take(node)) this.#waiting.push(violation);
    else fold(node, violation);
    this.#timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  /** Keeps what waits. What could not be kept waits on. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const node of this.#nodes.values())
      for (const [key, violation] of node.folded)
        if (this.#take(node)) {
          node.folded.delete(key);
          this.#waiting.push(violation);
        }
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, BATCH_MAX);
        const numbers = this.#options.keep(batch);
        this.#waiting = this.#waiting.slice(batch.length);
        for (const [i, violation] of batch.entries())
          this.#options.onKept({ ...violation, number: numbers[i] ?? 0 });
      }
      this.#options.onFault(undefined);
    } catch (fault) {
      this.#options.onFault(fault);
    }
    const left = this.#waiting.length > 0 || [...this.#nodes.values()].some((n) => n.folded.size);
    if (left)
      this.#timer = setTimeout(() => this.flush(), this.#waiting.length > 0 ? 1_000 : FLUSH_MS);
  }

  close(): void {
    this.flush();
    clearTimeout(this.#timer);
  }

  #nodeOf(name: string): Node {
    let node = this.#nodes.get(name);
    if (node === undefined) {
      node = { room: BURST_MAX, refilledMs: this.#options.now(), folded: new Map() };
      this.#nodes.set(name, node);
    }
    return node;
  }

  #take(node: Node): boolean {
    const now = this.#options.now();
    node.room = Math.min(BURST_MAX, node.room + ((now - node.refilledMs) / 1000) * PER_SECOND);
    node.refilledMs = now;
    if (node.room < 1) return false;
    node.room -= 1;
    return true;
  }
}

/** One record for many: without a target, as a warden folds them. */
function fold({ folded }: Node, violation: Violation): void {
  const key = `${violation.deployment} ${violation.kind} ${violation.operation}`;
  const before = folded.get(key);
  folded.set(
    key,
    before === undefined
      ? { ...violation, target: '', targetLength: 0, targetDigest: '' }
      : {
          ...before,
          count: before.count + violation.count,
          stopped: before.stopped || violation.stopped,
          atSeconds: violation.atSeconds,
        },
  );
}
