/**
 * The engine's own end of the pipes: plain blocking reads and writes of descriptors 0 and 1. Node's streams are left
 * alone, because they use calls that the sealed sandbox refuses.
 */
import { readSync, writeSync, writevSync } from 'node:fs';
import { CHANNEL, ENVELOPE_HEADER_BYTES, type FromEngine } from '../messages.ts';
import { encodeControl, envelopeHeader, readEnvelopeHeader, type Envelope } from './envelope.ts';

const INPUT = 0;
const OUTPUT = 1;
const RETRY_MS = 1;
/** As much as a pipe holds. */
const AHEAD_BYTES = 64 * 1024;

export class SyncPipe {
  readonly #header = new Uint8Array(ENVELOPE_HEADER_BYTES);
  /** Read but not yet given out: a small envelope comes with its header, in one system call. */
  readonly #ahead = new Uint8Array(AHEAD_BYTES);
  #aheadFrom = 0;
  #aheadTo = 0;
  readonly #nap = new Int32Array(new SharedArrayBuffer(4));

  /** The next envelope; undefined when the agent has closed the pipe. Throws `engine.pipe`. */
  read(): Envelope | undefined {
    if (!this.#fill(this.#header)) return undefined;
    const { channel, bytes } = readEnvelopeHeader(this.#header);
    const payload = new Uint8Array(bytes);
    return this.#fill(payload) ? { channel, payload } : undefined;
  }

  send(message: FromEngine): void {
    this.#write(CHANNEL.control, encodeControl(message));
  }

  sendFrame(frame: Uint8Array): void {
    this.#write(CHANNEL.frame, frame);
  }

  #fill(target: Uint8Array): boolean {
    let at = 0;
    while (at < target.byteLength) {
      if (this.#aheadFrom === this.#aheadTo && !this.#readAhead()) return false;
      const part = this.#ahead.subarray(
        this.#aheadFrom,
        Math.min(this.#aheadTo, this.#aheadFrom + target.byteLength - at),
      );
      target.set(part, at);
      at += part.byteLength;
      this.#aheadFrom += part.byteLength;
    }
    return true;
  }

  #readAhead(): boolean {
    this.#aheadFrom = 0;
    this.#aheadTo = this.#patiently(() => readSync(INPUT, this.#ahead, 0, AHEAD_BYTES, null));
    return this.#aheadTo > 0;
  }

  #write(channel: Envelope['channel'], payload: Uint8Array): void {
    const header = envelopeHeader(channel, payload.byteLength);
    let written = this.#patiently(() => writevSync(OUTPUT, [header, payload]));
    while (written < header.byteLength) {
      const at = written;
      written += this.#patiently(() => writeSync(OUTPUT, header, at));
    }
    written -= header.byteLength;
    while (written < payload.byteLength) {
      const at = written;
      written += this.#patiently(() => writeSync(OUTPUT, payload, at));
    }
  }

  /** Whoever made the pipe may have made it non-blocking. */
  #patiently(call: () => number): number {
    for (;;)
      try {
        return call();
      } catch (thrown) {
        const code = (thrown as NodeJS.ErrnoException).code;
        if (code !== 'EAGAIN' && code !== 'EINTR') throw thrown;
        Atomics.wait(this.#nap, 0, 0, RETRY_MS);
      }
  }
}
