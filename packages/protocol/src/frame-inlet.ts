/**
 * The receiving end of the frames between two neighbours. Streams may follow each other, over whichever link: the newest
 * one counts, and is told how many frames are here. A frame that comes a second time is known by its number and dropped;
 * one that comes too early ends the session, for a step would be lost.
 */
import type { CallContext } from 'nice-grpc-common';
import { EXIT, MinikeepError, toMinikeepError } from './errors.ts';
import { takeFrames, type TakeFrame } from './frame-tap.ts';
import { FRAMES_METADATA, frameNumber, framePayload } from './frames.ts';
import type { FrameAck } from './generated/v1.ts';
import { RECONNECT_MS } from './limits.ts';

/** What the sender keeps is acknowledged after so many frames or bytes: rarely, for each one costs both sides. */
const ACK_FRAMES = 32;
const ACK_BYTES = 8 * 1024 * 1024;
/** The sender gives up first, and says why. */
const PATIENCE_MS = RECONNECT_MS + 5_000;

export interface FrameInletOptions {
  /** The sender's node, for errors. */
  readonly sender: string;
  readonly take: TakeFrame;
  /** How long a sender whose link broke is waited for. */
  readonly patienceMs?: number;
  /** No stream any more, and none will come; once, unless `close` was called. */
  onLost(error: MinikeepError): void;
}

interface Stream {
  /** Why it ended; the wake-up of its handler. */
  error: MinikeepError | undefined;
  over: boolean;
  wake: () => void;
}

export class FrameInlet {
  readonly #options: FrameInletOptions;
  #senderId: string | undefined;
  #stream: Stream | undefined;
  /** Number of the frame that comes next. */
  #next = 0;
  #acknowledged = 0;
  #bytesSinceAck = 0;
  /** What taking the newest frame waits for. */
  #taking: void | Promise<void> = undefined;
  #away: NodeJS.Timeout | undefined;
  #over = false;

  constructor(options: FrameInletOptions) {
    this.#options = options;
  }

  /** Who sends now, as `minikeep-sender` says; undefined before the first stream. */
  get senderId(): string | undefined {
    return this.#senderId;
  }

  get over(): boolean {
    return this.#over;
  }

  /** The body of a stream's handler: acknowledgements, until the stream ends or another one takes its place. */
  async *serve(
    request: AsyncIterable<Uint8Array>,
    context: CallContext,
  ): AsyncGenerator<FrameAck, void, undefined> {
    this.#senderId = context.metadata.get(FRAMES_METADATA.sender) ?? '';
    const stream: Stream = { error: undefined, over: false, wake: () => {} };
    if (this.#stream !== undefined) end(this.#stream, replaced());
    this.#stream = stream;
    clearTimeout(this.#away);
    const before = this.#taking;
    try {
      // One frame at a time, and in order: also while the engine is still taking one of the stream before.
      await before;
      yield this.#ack();
      takeFrames(request, context, (message) => this.#take(stream, message)).then(
        () => end(stream, streamEnded(this.#options.sender)),
        (thrown: unknown) => end(stream, toMinikeepError(thrown)),
      );
      for (;;) {
        await this.#nextAck(stream);
        if (stream.over) break;
        yield this.#ack();
      }
      // Nobody would hear why.
      if (!context.signal.aborted) throw stream.error ?? streamEnded(this.#options.sender);
    } finally {
      stream.over = true;
      this.#left(stream, context.signal.aborted);
    }
  }

  /** Nothing is taken any more. */
  close(why: MinikeepError): void {
    this.#over = true;
    clearTimeout(this.#away);
    if (this.#stream !== undefined) end(this.#stream, why);
    this.#stream = undefined;
  }

  #take(stream: Stream, message: Uint8Array): void | Promise<void> {
    if (stream.over) throw stream.error ?? streamEnded(this.#options.sender);
    const number = frameNumber(message);
    // Sent again because nobody could know that it had arrived.
    if (number < this.#next) return undefined;
    if (number > this.#next) throw gap(this.#options.sender, number - this.#next);
    const payload = framePayload(message);
    this.#taking = this.#options.take(payload);
    this.#next++;
    this.#bytesSinceAck += message.byteLength;
    if (this.#next - this.#acknowledged >= ACK_FRAMES || this.#bytesSinceAck >= ACK_BYTES)
      stream.wake();
    return this.#taking;
  }

  #ack(): FrameAck {
    this.#acknowledged = this.#next;
    this.#bytesSinceAck = 0;
    return { received: this.#next };
  }

  async #nextAck(stream: Stream): Promise<void> {
    if (stream.over) return;
    await new Promise<void>((resolve) => {
      stream.wake = resolve;
    });
  }

  /** A broken link is not the end: its sender may come back over another one. What was wrong with a frame is. */
  #left(stream: Stream, cut: boolean): void {
    if (this.#over || this.#stream !== stream) return;
    this.#stream = undefined;
    const error = stream.error ?? streamEnded(this.#options.sender);
    if (!cut && error.code !== 'pipeline.stream_lost') this.#lose(error);
    else
      this.#away = setTimeout(
        () => this.#lose(streamEnded(this.#options.sender)),
        this.#options.patienceMs ?? PATIENCE_MS,
      ).unref();
  }

  #lose(error: MinikeepError): void {
    if (this.#over) return;
    this.close(error);
    this.#options.onLost(error);
  }
}

function end(stream: Stream, error: MinikeepError): void {
  if (stream.over) return;
  stream.over = true;
  stream.error = error;
  stream.wake();
}

/** Passing: to the sender another attempt is worth while. */
function streamEnded(sender: string): MinikeepError {
  return new MinikeepError('pipeline.stream_lost', `${sender} ended its stream of frames`, {
    next: 'Look at that node: `minikeep status` shows whether its agent runs.',
    exitCode: EXIT.unreachable,
  });
}

function replaced(): MinikeepError {
  return new MinikeepError('pipeline.stream_lost', 'its sender has opened another stream', {
    next: 'Nothing: frames go over a better link.',
    exitCode: EXIT.unreachable,
  });
}

function gap(sender: string, missing: number): MinikeepError {
  return new MinikeepError(
    'pipeline.frames_missing',
    `${missing} frames of ${sender} are missing in front of one`,
    { next: 'Deploy again; if it happens again, compare versions with `minikeep nodes`.' },
  );
}
