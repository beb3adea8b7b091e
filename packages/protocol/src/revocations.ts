/**
 * Certificates that are shut out before their time is over. Of two lists the one with the higher epoch counts, so that
 * an old one can't let anybody in again. Calls that run when a certificate is revoked are ended, and none begins.
 */

/** More than a cluster will ever remove within a certificate's lifetime. */
export const REVOKED_MAX = 4_096;

export interface RevokedSerials {
  readonly epoch: number;
  /** Lower-case hex. */
  readonly serials: readonly string[];
}

export class Revocations {
  #epoch = 0;
  #serials: ReadonlySet<string> = new Set();
  /** What ends each call that runs, by its caller's serial number. */
  readonly #running = new Map<string, Set<() => void>>();

  get epoch(): number {
    return this.#epoch;
  }

  has(serial: string): boolean {
    return this.#serials.has(normalSerial(serial));
  }

  /**
   * Takes a newer list, keeps who was shut out before (a coordinator that was brought back from an old backup has
   * forgotten some), and ends the calls of those on it; returns how many, or undefined for a list that is no
   * newer.
   */
  apply(list: RevokedSerials): number | undefined {
    if (list.epoch <= this.#epoch) return undefined;
    this.#epoch = list.epoch;
    this.#serials = new Set(this.merged(list).serials);
    let ended = 0;
    for (const serial of this.#serials)
      for (const end of this.#running.get(serial) ?? []) {
        end();
        ended += 1;
      }
    return ended;
  }

  /** What this will know once `list` is applied: to be kept on the disk before. */
  merged(list: RevokedSerials): RevokedSerials {
    const serials = new Set([...list.serials.map(normalSerial), ...this.#serials]);
    return { epoch: list.epoch, serials: [...serials].slice(0, REVOKED_MAX) };
  }

  /** A call by the certificate began; `end` is called if it is revoked. Returns what is called when the call is over. */
  begin(serial: string, end: () => void): () => void {
    const key = normalSerial(serial);
    const calls = this.#running.get(key) ?? new Set();
    this.#running.set(key, calls);
    calls.add(end);
    return () => {
      calls.delete(end);
      if (calls.size === 0 && this.#running.get(key) === calls) this.#running.delete(key);
    };
  }
}

/** Node prints upper-case and drops leading zeroes. */
export const normalSerial = (serial: string): string => serial.toLowerCase().replace(/^0+/, '');
