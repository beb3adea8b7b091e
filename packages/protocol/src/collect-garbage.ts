/**
 * Gives buffers of streams back in time: a chunk passes through some five of them (protobuf, HTTP/2, TLS, disk), and V8
 * by itself lets 64 MiB of them pile up. Counted for all streams of the process together: eight of them, each with a
 * count of its own, would pile up as much.
 */
const COLLECT_AFTER_BYTES = 4 * 1024 * 1024;

let sinceBytes = 0;

/** Call with what went through a stream. */
export function passedThrough(bytes: number): void {
  sinceBytes += bytes;
  if (sinceBytes < COLLECT_AFTER_BYTES) return;
  sinceBytes = 0;
  // Only there in a process started with --expose-gc (TRUSTED_NODE).
  globalThis.gc?.({ type: 'minor' });
}
