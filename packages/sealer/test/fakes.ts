// A kernel's firewall and a disk in memory, which may fail or be "killed" at any step; and a clock that stands still.
import { wallOf } from '@minikeep/containment/firewall';
import type { Firewall, Standing } from '../src/firewall.ts';
import type { Kept, KeptStore } from '../src/kept.ts';
import type { KeeperClock } from '../src/keeper.ts';
import type { UnsignedOrder } from '../src/order.ts';

export type Wish = Extract<UnsignedOrder, { verb: 'apply' }>['wish'];

export const wishFor = (peer: string): Wish => ({
  peers: [peer],
  ports: [7420],
  admins: [],
  sshPort: 22,
  discovery: true,
});

/** What outlives a process: disk and kernel. Each access is a step; `failAt` makes that one fail, before or after it acts. */
export class FakeMachine {
  kept: Kept = { version: 1 };
  standing: Standing | undefined;
  steps = 0;
  failAt: { step: number; done: boolean } | undefined;

  readonly store: KeptStore = {
    load: () => this.kept,
    save: (kept) =>
      this.#step(() => {
        this.kept = structuredClone(kept);
      }),
  };
  readonly firewall: Firewall = {
    set: async (wall) =>
      this.#step(() => {
        this.standing = { digest: JSON.stringify(wall), dropped: { incoming: 0 } };
      }),
    remove: async () =>
      this.#step(() => {
        this.standing = undefined;
      }),
    read: async () => this.standing,
  };

  isFor = (peer: string): boolean =>
    this.standing?.digest === JSON.stringify(wallOf(wishFor(peer)));

  #step(act: () => void): void {
    const fails = this.failAt?.step === this.steps++;
    if (!fails || this.failAt?.done === true) act();
    if (fails) throw new Error('killed here');
  }
}

export class FakeClock implements KeeperClock {
  #nowMs = 1_000_000;
  readonly #waiting = new Map<() => void, number>();

  now = (): number => this.#nowMs;

  after(milliseconds: number, what: () => void): () => void {
    this.#waiting.set(what, this.#nowMs + milliseconds);
    return () => void this.#waiting.delete(what);
  }

  /** Lets the time pass, and what was due do its work. */
  async pass(milliseconds: number): Promise<void> {
    this.#nowMs += milliseconds;
    for (const [what, atMs] of this.#waiting)
      if (atMs <= this.#nowMs) {
        this.#waiting.delete(what);
        what();
      }
    await new Promise((resolve) => setImmediate(resolve));
  }
}
