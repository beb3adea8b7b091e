/**
 * A short way for frames into their handler. What lies between HTTP/2 and a handler's async iterator (a stream object,
 * its events, three layers of iterators) runs once a hop, and with caches that an engine has just swept through its
 * weights it costs more than the connection itself. So frames of an accepted stream are taken off at the call.
 */
import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { CallContext } from 'nice-grpc-common';

/** Metadata in which a handler finds its call's tap; always written here, whatever the caller sent. */
const TAP_KEY = 'minikeep-frame-tap';
/** The one method whose messages are frames. */
export const FRAMES_PATH = '/minikeep.v1.DataPlaneService/Frames';

export type TakeFrame = (frame: Uint8Array) => void | Promise<void>;

const taps = new Map<string, FrameTap>();
let nextTap = 1;

/** The handler's side of a call; grpc-js does not export its name. */
type HandlerListener = Parameters<ServerInterceptingCall['start']>[0];

/** The call nearest to the handler: hands on everything, but for the frames that `open` asks for. */
class FrameTap extends ServerInterceptingCall {
  /** Frames that went the long way, and those of them that the handler is done with: while they differ, none may overtake. */
  #passed = 0;
  #done = 0;
  #take: TakeFrame | undefined;
  #fail: (reason: unknown) => void = () => {};

  override start(listener: HandlerListener): void {
    const key = String(nextTap++);
    taps.set(key, this);
    super.start({
      onReceiveMetadata: (metadata) => {
        metadata.set(TAP_KEY, key);
        listener.onReceiveMetadata(metadata);
      },
      onReceiveMessage: (message: Uint8Array) => {
        if (this.#take !== undefined && this.#passed === this.#done) {
          void this.#deliver(this.#take, message);
          return;
        }
        this.#passed++;
        listener.onReceiveMessage(message);
      },
      onReceiveHalfClose: () => listener.onReceiveHalfClose(),
      // Comes at the end of every call, cancelled or not.
      onCancel: () => {
        taps.delete(key);
        this.#take = undefined;
        listener.onCancel();
      },
    });
  }

  open(take: TakeFrame, fail: (reason: unknown) => void): void {
    this.#take = take;
    this.#fail = fail;
  }

  /** A frame that came the long way has been taken. */
  passedOne(): void {
    this.#done++;
  }

  /** The next frame is asked for when this one is taken: that is the back-pressure. */
  async #deliver(take: TakeFrame, frame: Uint8Array): Promise<void> {
    try {
      await take(frame);
    } catch (reason) {
      this.#take = undefined;
      this.#fail(reason);
      return;
    }
    this.startRead();
  }
}

export const frameTap: ServerInterceptor = (descriptor, call) =>
  descriptor.path === FRAMES_PATH ? new FrameTap(call) : new ServerInterceptingCall(call);

/**
 * Hands every frame of a stream to `take`, one at a time and in order, until the stream ends. Throws what `take`
 * throws, and why the stream broke.
 */
export async function takeFrames(
  request: AsyncIterable<Uint8Array>,
  context: CallContext,
  take: TakeFrame,
): Promise<void> {
  const tap = taps.get(context.metadata.get(TAP_KEY) ?? '');
  const failed = new Promise<never>((_resolve, reject) => tap?.open(take, reject));
  // Frames that were here before the tap was open, and the end of the stream.
  const rest = async (): Promise<void> => {
    for await (const frame of request) {
      await take(frame);
      tap?.passedOne();
    }
  };
  await Promise.race([rest(), failed]);
}
