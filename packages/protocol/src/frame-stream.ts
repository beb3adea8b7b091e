/** One stream of frames over one way to a neighbour. It may break: what is sent again then, FrameLink knows. */
import { Client, Metadata as GrpcMetadata, status, type ClientDuplexStream } from '@grpc/grpc-js';
import { EXIT, MinikeepError } from './errors.ts';
import { CHANNEL_OPTIONS, channelCredentials, type CredentialPems } from './credentials.ts';
import { FRAMES_PATH } from './frame-tap.ts';
import { FRAMES_METADATA } from './frames.ts';
import { FrameAck } from './generated/v1.ts';
import type { Identity } from './identity.ts';
import { FRAME_KEEPALIVE_IDLE_MS, FRAME_KEEPALIVE_TIMEOUT_MS, PROTOCOL_VERSION } from './limits.ts';
import { reaching } from './reaching.ts';

/** What the receiver has to know of a stream. */
export interface FrameRoute {
  readonly credentials: CredentialPems;
  readonly neighbour: Identity;
  readonly deployment: string;
  readonly epoch: number;
  /** Counts up with each connection of an epoch. */
  readonly session: number;
  /** Random, one for each sender. */
  readonly sender: string;
}

export interface FrameStreamEvents {
  /** The receiver has so many frames; the first time when it accepts the stream. */
  onAck(received: number): void;
  /** Once, unless `close` was called. `final`: the receiver does not want this sender; another way changes nothing. */
  onEnd(error: MinikeepError, final: boolean): void;
}

/** Another attempt, perhaps over another link, may go better. */
const PASSING: ReadonlySet<number> = new Set([
  status.UNAVAILABLE,
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.UNKNOWN,
  status.INTERNAL,
  status.OK,
]);

export class FrameStream {
  readonly #client: Client;
  readonly #route: FrameRoute;
  #call: ClientDuplexStream<Buffer, FrameAck> | undefined;
  #closed = false;

  constructor(address: string, route: FrameRoute) {
    this.#route = route;
    reaching(address);
    this.#client = new Client(address, channelCredentials(route.credentials, route.neighbour), {
      ...CHANNEL_OPTIONS,
      'grpc.keepalive_time_ms': FRAME_KEEPALIVE_IDLE_MS,
      'grpc.keepalive_timeout_ms': FRAME_KEEPALIVE_TIMEOUT_MS,
    });
  }

  /** Connects. False: nobody answered in time. */
  ready(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#client.waitForReady(Date.now() + timeoutMs, (error) => resolve(error === undefined));
    });
  }

  open(events: FrameStreamEvents): void {
    const { neighbour } = this.#route;
    const call = this.#client.makeBidiStreamRequest(
      FRAMES_PATH,
      (message: Buffer) => message,
      (bytes: Buffer) => FrameAck.decode(bytes),
      metadataOf(this.#route),
    );
    this.#call = call;
    let ended = false;
    const end = (why: string, code: number): void => {
      if (ended) return;
      ended = true;
      this.#client.close();
      if (!this.#closed) events.onEnd(streamLost(neighbour.name, why), !PASSING.has(code));
    };
    call.on('data', ({ received }) => {
      if (!this.#closed) events.onAck(received);
    });
    call.on('error', (error) => end(error.message, (error as { code?: number }).code ?? -1));
    call.on('end', () => end('it ended the stream', status.OK));
  }

  /** False: the neighbour is behind; wait for `onceDrained` before sending more. */
  write(message: Buffer): boolean {
    return this.#call?.write(message) ?? false;
  }

  onceDrained(callback: () => void): void {
    this.#call?.once('drain', callback);
  }

  close(): void {
    this.#closed = true;
    this.#call?.cancel();
    this.#client.close();
  }
}

function metadataOf({ deployment, epoch, session, sender }: FrameRoute): GrpcMetadata {
  const metadata = new GrpcMetadata();
  metadata.set(FRAMES_METADATA.deployment, deployment);
  metadata.set(FRAMES_METADATA.epoch, String(epoch));
  metadata.set(FRAMES_METADATA.session, String(session));
  metadata.set(FRAMES_METADATA.sender, sender);
  metadata.set(FRAMES_METADATA.version, String(PROTOCOL_VERSION));
  return metadata;
}

export function streamLost(node: string, why: string): MinikeepError {
  return new MinikeepError(
    'pipeline.stream_lost',
    `the stream of frames to ${node} broke: ${why}`,
    {
      next: 'Look at that node: `minikeep status` shows whether its agent runs.',
      exitCode: EXIT.unreachable,
    },
  );
}
