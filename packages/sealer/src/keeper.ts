/**
 * Holds a node's firewall: sets what the authority ordered, goes back to what held before unless that is confirmed in
 * time, and puts it back when somebody takes it away. Everything is written down before it is done, so that a helper that
 * is killed at any step finds out on its next start what must hold: a confirmed wall stays, an unconfirmed one goes.
 */
import { wallOf } from '@minikeep/containment/firewall';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { Firewall, Standing } from './firewall.ts';
import type { Kept, KeptStore, KeptWall } from './kept.ts';
import { openOrder, orderDigest, type SealOrder, type UnsignedOrder } from './order.ts';

export const CONFIRM_MS = 60_000;
/** A firewall flushed by hand must be noticed within five seconds. */
export const CHECK_MS = 2_000;
/** Until the next try when going back failed. */
const AGAIN_MS = 2_000;

export type SealStage = 'open' | 'pending' | 'confirmed';

export interface SealerStatus {
  readonly stage: SealStage;
  /** Digest of the order behind the wall that should stand; empty: none should. */
  readonly order: string;
  readonly sinceMs: number;
  /** In the kernel, as it was set. */
  readonly standing: boolean;
  /** How often somebody had changed or removed it, and it was put back. */
  readonly restored: number;
  readonly restoredAtMs: number;
  /** Dropped packets by chain since the helper started. */
  readonly dropped: Readonly<Record<string, number>>;
  /** For the next `apply` or `remove`. */
  readonly nonce: string;
  /** What the last attempt at the firewall ended with; empty: well. */
  readonly trouble: string;
}

export interface KeeperClock {
  now(): number;
  /** Returns how to call it off. */
  after(milliseconds: number, what: () => void): () => void;
}

export interface KeeperSettings {
  readonly cluster: string;
  readonly node: string;
  /** Its certificate, PEM. */
  readonly authority: string;
  readonly firewall: Firewall;
  readonly store: KeptStore;
  readonly clock: KeeperClock;
  readonly onNote: (note: string) => void;
}

export class SealKeeper {
  readonly #settings: KeeperSettings;
  #kept: Kept = { version: 1 };
  #nonce = draw();
  #set: Standing | undefined;
  #standing = false;
  #restored = 0;
  #restoredAtMs = 0;
  readonly #dropped: Record<string, number> = {};
  #seen: Readonly<Record<string, number>> = {};
  #trouble = '';
  #callOff: () => void = () => undefined;
  /** One thing at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(settings: KeeperSettings) {
    this.#settings = settings;
  }

  /** Makes true what was written down. Throws `seal.state_damaged`, `seal.firewall`. */
  start(): Promise<void> {
    return this.#inTurn(async () => {
      this.#kept = this.#settings.store.load();
      if (this.#kept.pending !== undefined) this.#save({ confirmed: this.#kept.confirmed });
      await this.#make();
    });
  }

  status(): SealerStatus {
    const { pending, confirmed } = this.#kept;
    const wall = pending ?? confirmed;
    return {
      stage: pending === undefined ? (confirmed === undefined ? 'open' : 'confirmed') : 'pending',
      order: wall?.order ?? '',
      sinceMs: wall?.sinceMs ?? 0,
      standing: this.#standing,
      restored: this.#restored,
      restoredAtMs: this.#restoredAtMs,
      dropped: { ...this.#dropped },
      nonce: this.#nonce,
      trouble: this.#trouble,
    };
  }

  /** Throws `seal.not_signed`, `seal.other_node`, `seal.used_order`, and what the firewall and the state throw. */
  async order(order: SealOrder): Promise<SealerStatus> {
    await this.#inTurn(async () => {
      const opened = this.#opened(order);
      if (opened.verb === 'confirm') return this.#confirm(opened.order);
      if (opened.verb === 'undo') return this.#undo(opened.order);
      this.#take(opened.nonce);
      if (opened.verb === 'remove') return this.#remove();
      // Judged before anything changes.
      wallOf(opened.wish);
      return this.#apply({
        order: orderDigest(order),
        wish: opened.wish,
        sinceMs: this.#settings.clock.now(),
      });
    });
    return this.status();
  }

  /** Is what should stand, standing? If not, it is put back. Never throws. */
  check(): Promise<void> {
    return this.#inTurn(async () => {
      const { firewall, clock, onNote } = this.#settings;
      const wall = this.#wall();
      try {
        const found = await firewall.read();
        this.#count(found);
        if (found?.digest === this.#set?.digest && (wall === undefined || this.#standing)) return;
        this.#standing = false;
        await this.#make();
        this.#restored++;
        this.#restoredAtMs = clock.now();
        onNote(
          found === undefined ? 'the firewall was gone: put back' : 'rules were changed: put back',
        );
      } catch (error) {
        this.#standing = false;
        this.#trouble = String(error instanceof Error ? error.message : error);
      }
    });
  }

  /** Ends what waits; the firewall stays. */
  close(): void {
    this.#callOff();
  }

  #opened(order: SealOrder): UnsignedOrder {
    const { authority, cluster, node } = this.#settings;
    const opened = openOrder(order, authority);
    if (opened === undefined)
      throw denied('seal.not_signed', 'the order is not signed by this cluster’s authority');
    if (opened.cluster !== cluster || opened.node !== node)
      throw denied('seal.other_node', `the order is for ${opened.node} of ${opened.cluster}`);
    return opened;
  }

  #take(nonce: string): void {
    const same = timingSafeEqual(Buffer.from(nonce), Buffer.from(this.#nonce));
    if (!same) throw denied('seal.used_order', 'the order’s number was used or never drawn');
    this.#nonce = draw();
  }

  async #apply(pending: KeptWall): Promise<void> {
    const before = this.#kept;
    this.#save({ confirmed: before.confirmed, pending });
    this.#callOff();
    try {
      await this.#make();
    } catch (error) {
      await this.#goBack();
      throw error;
    }
    this.#wait(CONFIRM_MS);
  }

  #confirm(order: string): void {
    const { pending, confirmed } = this.#kept;
    // Said again, as by somebody who did not hear the answer.
    if (pending === undefined && confirmed?.order === order) return;
    if (pending?.order !== order)
      throw denied('seal.nothing_to_confirm', 'no such rules wait for their confirmation');
    this.#save({ confirmed: pending });
    this.#callOff();
    this.#settings.onNote('the firewall is confirmed: it stays until unsealed');
  }

  /** Another node could not be sealed: what waits here need not wait for its minute. */
  async #undo(order: string): Promise<void> {
    if (this.#kept.pending?.order !== order) return;
    this.#callOff();
    await this.#goBack();
  }

  async #remove(): Promise<void> {
    this.#save({});
    this.#callOff();
    await this.#make();
    this.#settings.onNote('the firewall is removed, as the authority ordered');
  }

  #wait(milliseconds: number): void {
    this.#callOff = this.#settings.clock.after(
      milliseconds,
      () => void this.#inTurn(() => this.#goBack()),
    );
  }

  /** To what was confirmed before. */
  async #goBack(): Promise<void> {
    const { pending, confirmed } = this.#kept;
    if (pending === undefined) return;
    this.#kept = { version: 1, confirmed };
    this.#settings.onNote('rules that nobody confirmed are undone');
    await this.#settle();
  }

  /**
   * First the kernel, for a full disk must not keep people locked out; who starts anew goes back as well. Goes on trying:
   * rules that nobody confirmed may have locked everybody out.
   */
  async #settle(): Promise<void> {
    try {
      await this.#make();
      this.#save(this.#kept);
    } catch (error) {
      this.#trouble = String(error instanceof Error ? error.message : error);
      this.#callOff = this.#settings.clock.after(
        AGAIN_MS,
        () => void this.#inTurn(() => this.#settle()),
      );
    }
  }

  #wall(): KeptWall | undefined {
    return this.#kept.pending ?? this.#kept.confirmed;
  }

  /** The kernel as it should be. */
  async #make(): Promise<void> {
    const { firewall } = this.#settings;
    const wall = this.#wall();
    this.#standing = false;
    if (wall === undefined) {
      await firewall.remove();
      this.#set = undefined;
    } else {
      await firewall.set(wallOf(wall.wish));
      this.#set = await firewall.read();
      this.#standing = this.#set !== undefined;
    }
    this.#seen = {};
    this.#trouble = '';
  }

  #count(found: Standing | undefined): void {
    if (found === undefined) return;
    for (const [chain, packets] of Object.entries(found.dropped)) {
      const before = this.#seen[chain] ?? 0;
      // Set anew by somebody, it counts from zero.
      this.#dropped[chain] =
        (this.#dropped[chain] ?? 0) + (packets >= before ? packets - before : packets);
    }
    this.#seen = found.dropped;
  }

  #save(kept: Omit<Kept, 'version'>): void {
    const next = { ...kept, version: 1 as const };
    this.#settings.store.save(next);
    this.#kept = next;
  }

  #inTurn<T>(what: () => Promise<T> | T): Promise<T> {
    const mine = this.#turn.then(what);
    this.#turn = mine.catch(() => undefined);
    return mine;
  }
}

const draw = (): string => randomBytes(32).toString('hex');

const denied = (code: string, message: string): MinikeepError =>
  new MinikeepError(code, message, {
    next: 'Ask the coordinator to seal again: minikeep seal.',
    exitCode: EXIT.denied,
  });
