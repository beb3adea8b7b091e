/**
 * The envelope around every message on an engine's pipes: u32 length of what follows (little-endian), u8 channel,
 * payload. Both ends read with limits; the agent's end reads what untrusted code wrote.
 */
import { FRAME_BYTES_MAX, MinikeepError } from '@minikeep/protocol';
import { CHANNEL, CONTROL_BYTES_MAX, ENVELOPE_HEADER_BYTES } from '../messages.ts';
import { NEXT } from '../next-steps.ts';

export type Channel = (typeof CHANNEL)[keyof typeof CHANNEL];

export interface Envelope {
  readonly channel: Channel;
  readonly payload: Uint8Array;
}

/** The five bytes in front of a payload. */
export function envelopeHeader(channel: Channel, payloadBytes: number): Uint8Array {
  const header = new Uint8Array(ENVELOPE_HEADER_BYTES);
  new DataView(header.buffer).setUint32(0, payloadBytes + 1, true);
  header[4] = channel;
  return header;
}

/** Payload size and channel of a header. Throws `engine.pipe` on anything out of bounds. */
export function readEnvelopeHeader(
  header: Uint8Array,
  controlBytesMax = CONTROL_BYTES_MAX,
): { channel: Channel; bytes: number } {
  const bytes = new DataView(header.buffer, header.byteOffset).getUint32(0, true) - 1;
  const channel = header[4];
  if (channel !== CHANNEL.control && channel !== CHANNEL.frame)
    throw pipeFault(`channel ${channel ?? 'absent'}`);
  const most = channel === CHANNEL.control ? controlBytesMax : FRAME_BYTES_MAX;
  if (bytes < 0 || bytes > most) throw pipeFault(`${bytes} bytes on channel ${channel}`);
  return { channel, bytes };
}

/** A control message as bytes. Throws `engine.prompt_too_long`: only texts and their tokens can outgrow a message. */
export function encodeControl(message: unknown): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify(message));
  if (bytes.byteLength <= CONTROL_BYTES_MAX) return bytes;
  throw new MinikeepError(
    'engine.prompt_too_long',
    `the text and its tokens are ${bytes.byteLength} bytes; the limit is ${CONTROL_BYTES_MAX}`,
    { next: NEXT.shortenText },
  );
}

function pipeFault(what: string): MinikeepError {
  return new MinikeepError('engine.pipe', `the engine's pipe carries something else: ${what}`, {
    next: NEXT.takenOver,
  });
}

/** Takes chunks as they come and gives whole envelopes. Holds one envelope at most, and grows as its bytes arrive. */
export class EnvelopeReader {
  readonly #header = new Uint8Array(ENVELOPE_HEADER_BYTES);
  readonly #controlBytesMax: () => number;
  #headerBytes = 0;
  #channel: Channel = CHANNEL.control;
  #payload: Uint8Array | undefined;
  #expected = 0;
  #filled = 0;

  /** `controlBytesMax`: what a control message may take that begins now; it is parsed whole. */
  constructor(controlBytesMax = (): number => CONTROL_BYTES_MAX) {
    this.#controlBytesMax = controlBytesMax;
  }

  /** Throws `engine.pipe`; the reader is of no use afterwards. */
  push(chunk: Uint8Array): Envelope[] {
    const done: Envelope[] = [];
    let at = 0;
    while (at < chunk.byteLength || this.#complete) {
      if (this.#payload === undefined) at += this.#takeHeader(chunk.subarray(at));
      else at += this.#takePayload(chunk.subarray(at));
      if (!this.#complete || this.#payload === undefined) continue;
      done.push({ channel: this.#channel, payload: this.#payload.subarray(0, this.#expected) });
      this.#payload = undefined;
      this.#headerBytes = 0;
    }
    return done;
  }

  get #complete(): boolean {
    return this.#payload !== undefined && this.#filled === this.#expected;
  }

  #takeHeader(chunk: Uint8Array): number {
    const part = chunk.subarray(0, ENVELOPE_HEADER_BYTES - this.#headerBytes);
    this.#header.set(part, this.#headerBytes);
    this.#headerBytes += part.byteLength;
    if (this.#headerBytes === ENVELOPE_HEADER_BYTES) {
      const { channel, bytes } = readEnvelopeHeader(this.#header, this.#controlBytesMax());
      this.#channel = channel;
      this.#expected = bytes;
      this.#filled = 0;
      this.#payload = new Uint8Array(Math.min(bytes, FIRST_BYTES));
    }
    return part.byteLength;
  }

  #takePayload(chunk: Uint8Array): number {
    const part = chunk.subarray(0, this.#expected - this.#filled);
    const needed = this.#filled + part.byteLength;
    let payload = this.#payload ?? new Uint8Array();
    if (needed > payload.byteLength) {
      // An announced size is only a claim: memory is taken as bytes really arrive.
      const larger = new Uint8Array(
        Math.min(this.#expected, Math.max(needed, payload.byteLength * 2)),
      );
      larger.set(payload.subarray(0, this.#filled));
      payload = larger;
      this.#payload = larger;
    }
    payload.set(part, this.#filled);
    this.#filled = needed;
    return part.byteLength;
  }
}

const FIRST_BYTES = 256 * 1024;
