/**
 * Gives buffers of a stream back in time: a chunk passes through some five of them (protobuf, HTTP/2, TLS, disk), and V8
 * by itself lets 64 MiB of them pile up.
 */
const COLLECT_AFTER_BYTES = 2 * 1024 * 1024;

export class CollectGarbage {
  #bytes = 0;

  /** Call with what went through. */
  passed(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < COLLECT_AFTER_BYTES) return;
    this.#bytes = 0;
    // Only there in a process started with --expose-gc (TRUSTED_NODE).
    globalThis.gc?.({ type: 'minor' });
  }
}
