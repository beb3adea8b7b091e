/**
 * The data plane's method with raw bytes: a frame's protobuf wrapper (field 1, length) is put on and taken off by hand,
 * so that passing a frame on costs no decoding and at most one copy. On the data plane each message has its frame's
 * number in front (field 2), so that a frame that comes twice is known, whichever way it came.
 */
import type { CallContext } from 'nice-grpc-common';
import { MinikeepError } from './errors.ts';
import { FRAME_BYTES_MAX } from './frame.ts';
import { FRAMES_PATH } from './frame-tap.ts';
import { FrameAck } from './generated/v1.ts';

/** Room in front of a payload for its wrapper: tag and a length of always four bytes (28 bits; decoders accept that). */
export const FRAME_WRAPPER_BYTES = 5;
const TAG = 0x0a;

/** Puts the wrapper around a payload. With `headroom`, the five bytes before the payload in its buffer are ours to write, and nothing is copied. */
export function wrapFrame(payload: Uint8Array, headroom = false): Buffer {
  const length = payload.byteLength;
  if (length > FRAME_BYTES_MAX) throw malformed(`${length} bytes are more than the limit`);
  const inPlace = headroom && payload.byteOffset >= FRAME_WRAPPER_BYTES;
  const message = inPlace
    ? Buffer.from(
        payload.buffer,
        payload.byteOffset - FRAME_WRAPPER_BYTES,
        length + FRAME_WRAPPER_BYTES,
      )
    : Buffer.allocUnsafe(length + FRAME_WRAPPER_BYTES);
  writeWrapper(message, 0, length);
  if (!inPlace) message.set(payload, FRAME_WRAPPER_BYTES);
  return message;
}

function writeWrapper(message: Buffer, at: number, length: number): void {
  message[at] = TAG;
  message[at + 1] = (length & 0x7f) | 0x80;
  message[at + 2] = ((length >>> 7) & 0x7f) | 0x80;
  message[at + 3] = ((length >>> 14) & 0x7f) | 0x80;
  message[at + 4] = (length >>> 21) & 0x7f;
}

/** Takes the wrapper off: a view, not a copy. Accepts every length encoding, nothing besides field 1. Throws `frame.malformed`. */
export function unwrapFrame(message: Uint8Array): Uint8Array {
  if (message[0] !== TAG) throw malformed('not a frame message');
  let length = 0;
  let at = 1;
  for (let shift = 0; ; shift += 7) {
    const byte = message[at++];
    if (byte === undefined || shift > 28) throw malformed('its length is cut short or too long');
    length += (byte & 0x7f) * 2 ** shift;
    if ((byte & 0x80) === 0) break;
  }
  if (length > FRAME_BYTES_MAX || at + length !== message.byteLength)
    throw malformed('its length is not that of the message');
  return message.subarray(at);
}

/** Tag of field 2, and a number of always eight bytes, in front of the wrapper. */
const NUMBER_TAG = 0x11;
const NUMBER_BYTES = 9;
const TWO_32 = 2 ** 32;

/** The message of frame `number` (counted from 0 in its session). A copy: it is kept until it is acknowledged. */
export function numberFrame(payload: Uint8Array, number: number): Buffer {
  const length = payload.byteLength;
  if (length > FRAME_BYTES_MAX) throw malformed(`${length} bytes are more than the limit`);
  const message = Buffer.allocUnsafe(NUMBER_BYTES + FRAME_WRAPPER_BYTES + length);
  message[0] = NUMBER_TAG;
  message.writeUInt32LE(number % TWO_32, 1);
  message.writeUInt32LE(Math.floor(number / TWO_32), 5);
  writeWrapper(message, NUMBER_BYTES, length);
  message.set(payload, NUMBER_BYTES + FRAME_WRAPPER_BYTES);
  return message;
}

/** The number in a message, and its payload (a view). Throws `frame.malformed`. */
export function frameNumber(message: Uint8Array): number {
  if (message[0] !== NUMBER_TAG || message.byteLength < NUMBER_BYTES)
    throw malformed('it has no number');
  const view = new DataView(message.buffer, message.byteOffset + 1, 8);
  const number = view.getUint32(0, true) + view.getUint32(4, true) * TWO_32;
  if (!Number.isSafeInteger(number)) throw malformed('its number is out of bounds');
  return number;
}

export const framePayload = (message: Uint8Array): Uint8Array =>
  unwrapFrame(message.subarray(NUMBER_BYTES));

function malformed(what: string): MinikeepError {
  return new MinikeepError('frame.malformed', `a message of the data plane is malformed: ${what}`, {
    next: 'The sender runs another version or is faulty: compare versions with `minikeep nodes`.',
  });
}

/** For nice-grpc's server: requests arrive as they are, with their number (FrameInlet takes them apart). */
export const RawDataPlaneDefinition = {
  frames: {
    path: FRAMES_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: (message: Uint8Array): Uint8Array => message,
    requestDeserialize: (message: Uint8Array): Uint8Array => message,
    responseSerialize: (ack: FrameAck): Uint8Array => FrameAck.encode(ack).finish(),
    responseDeserialize: (bytes: Uint8Array): FrameAck => FrameAck.decode(bytes),
    options: {},
  },
} as const;

/** A server's handler of the method: numbered frames in, acknowledgements out, the first one when the stream is accepted. */
export type FramesHandler = (
  request: AsyncIterable<Uint8Array>,
  context: CallContext,
) => AsyncGenerator<FrameAck, void, undefined>;

export const FRAMES_METADATA = {
  deployment: 'minikeep-deployment',
  epoch: 'minikeep-epoch',
  session: 'minikeep-session',
  /** Random, one for each sender: a second sender of the same name is told apart from the first one that came back. */
  sender: 'minikeep-sender',
  version: 'minikeep-data-plane-version',
} as const;
