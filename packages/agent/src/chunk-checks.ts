/** Chunks between the network and the disk: checked beside everything else, taken in order, their memory given back. */

/** Chunks in memory that wait for their digest or their place in the file. */
const CHECKED_AT_ONCE = 3;

/** Buffers below this may be part of a pool. */
const LARGE_BYTES = 64 * 1024;

/**
 * Chunks that are being checked while the next ones arrive: another thread computes digests, which take as long as all
 * else that receiving does. They are taken in the order in which they came, one at a time.
 */
export class ChunkChecks {
  #last: Promise<void> = Promise.resolve();
  readonly #running: Promise<void>[] = [];

  /** Resolves when there is room for one more. Throws what an earlier one's `take` did. */
  async add(check: Promise<boolean>, take: (right: boolean) => Promise<void>): Promise<void> {
    const previous = this.#last;
    this.#last = (async () => {
      const right = await check;
      await previous;
      await take(right);
    })();
    // Thrown where it is waited for.
    this.#last.catch(() => {});
    this.#running.push(this.#last);
    if (this.#running.length >= CHECKED_AT_ONCE) await this.#running.shift();
  }

  async end(): Promise<void> {
    await this.#last;
  }
}

/** Memory of a large buffer that nobody else has goes at once: waiting for the collector costs more than all checks. */
export function giveBack(data: Uint8Array): void {
  const { buffer, byteOffset, byteLength } = data;
  const alone = byteOffset + byteLength === buffer.byteLength && byteLength >= LARGE_BYTES;
  if (alone && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
