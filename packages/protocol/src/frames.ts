/**
 * The data plane's method with raw bytes: a frame's protobuf wrapper (field 1, length) is put on and taken off by hand,
 * so that passing a frame on costs no decoding and at most one copy.
 */
import { Client, Metadata as GrpcMetadata, type ClientDuplexStream } from '@grpc/grpc-js';
import type { CallContext } from 'nice-grpc-common';
import { EXIT, MinikeepError } from './errors.ts';
import { FRAME_BYTES_MAX } from './frame.ts';
import { FRAMES_PATH } from './frame-tap.ts';
import { FrameAck } from './generated/v1.ts';
import { CHANNEL_OPTIONS, channelCredentials, type CredentialPems } from './credentials.ts';
import type { Identity } from './identity.ts';
import { PROTOCOL_VERSION } from './limits.ts';

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
  message[0] = TAG;
  message[1] = (length & 0x7f) | 0x80;
  message[2] = ((length >>> 7) & 0x7f) | 0x80;
  message[3] = ((length >>> 14) & 0x7f) | 0x80;
  message[4] = (length >>> 21) & 0x7f;
  if (!inPlace) message.set(payload, FRAME_WRAPPER_BYTES);
  return message;
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

function malformed(what: string): MinikeepError {
  return new MinikeepError('frame.malformed', `a message of the data plane is malformed: ${what}`, {
    next: 'The sender runs another version or is faulty: compare versions with `minikeep nodes`.',
  });
}

/** For nice-grpc's server: requests arrive as payload views; a malformed one fails the stream. */
export const RawDataPlaneDefinition = {
  frames: {
    path: FRAMES_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: (payload: Uint8Array): Uint8Array => wrapFrame(payload),
    requestDeserialize: unwrapFrame,
    responseSerialize: (ack: FrameAck): Uint8Array => FrameAck.encode(ack).finish(),
    responseDeserialize: (bytes: Uint8Array): FrameAck => FrameAck.decode(bytes),
    options: {},
  },
} as const;

/** A server's handler of the method: payloads in, one acknowledgement out when the stream is accepted. */
export type FramesHandler = (
  request: AsyncIterable<Uint8Array>,
  context: CallContext,
) => AsyncGenerator<FrameAck, void, undefined>;

export const FRAMES_METADATA = {
  deployment: 'minikeep-deployment',
  epoch: 'minikeep-epoch',
  session: 'minikeep-session',
  version: 'minikeep-data-plane-version',
} as const;

export interface FrameSenderOptions {
  readonly address: string;
  readonly credentials: CredentialPems;
  readonly neighbour: Identity;
  readonly deployment: string;
  readonly epoch: number;
  /** Counts up with each connection of an epoch. */
  readonly session: number;
  /** The stream ended, whoever ended it; once. Without an error when `close` was called. */
  onEnd(error: Error | undefined): void;
}

/** One stream of frames to a neighbour. */
export class FrameSender {
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, FrameAck>;
  /** Resolves when the neighbour accepted the stream. */
  readonly accepted: Promise<void>;
  #closed = false;

  constructor(options: FrameSenderOptions) {
    this.#client = new Client(
      options.address,
      channelCredentials(options.credentials, options.neighbour),
      CHANNEL_OPTIONS,
    );
    const metadata = new GrpcMetadata();
    metadata.set(FRAMES_METADATA.deployment, options.deployment);
    metadata.set(FRAMES_METADATA.epoch, String(options.epoch));
    metadata.set(FRAMES_METADATA.session, String(options.session));
    metadata.set(FRAMES_METADATA.version, String(PROTOCOL_VERSION));
    this.#call = this.#client.makeBidiStreamRequest(
      FRAMES_PATH,
      (message: Buffer) => message,
      (bytes: Buffer) => FrameAck.decode(bytes),
      metadata,
    );
    this.accepted = new Promise((resolve, reject) => {
      let ended = false;
      const end = (error: Error | undefined): void => {
        if (ended) return;
        ended = true;
        this.#client.close();
        const cause = this.#closed ? undefined : error;
        reject(cause ?? lost(options.neighbour.name, 'the stream was closed'));
        options.onEnd(cause);
      };
      this.#call.on('data', () => resolve());
      this.#call.on('error', (error) => end(lost(options.neighbour.name, error.message)));
      this.#call.on('end', () => end(lost(options.neighbour.name, 'it ended the stream')));
    });
    // Whoever does not wait for acceptance hears of the failure by onEnd.
    this.accepted.catch(() => {});
  }

  /** Sends one frame. False: the neighbour is behind; wait for `drained` before sending more. */
  send(payload: Uint8Array, headroom = false): boolean {
    return this.#call.write(wrapFrame(payload, headroom));
  }

  /** Calls back once, when there is room again. */
  onceDrained(callback: () => void): void {
    this.#call.once('drain', callback);
  }

  close(): void {
    this.#closed = true;
    this.#call.cancel();
    this.#client.close();
  }
}

function lost(node: string, why: string): MinikeepError {
  return new MinikeepError(
    'pipeline.stream_lost',
    `the stream of frames to ${node} broke: ${why}`,
    {
      next: 'Look at that node: `minikeep status` shows whether its agent runs.',
      exitCode: EXIT.unreachable,
    },
  );
}
