/**
 * One stage on its node: frames from the previous neighbour into the engine, frames out of the engine to the next one.
 * Opaque bytes both ways. Back-pressure is passed on: a slow engine stops the reading from upstream, a slow neighbour
 * stops the reading from the engine; nothing is queued here.
 */
import type { EngineClient } from '@minikeep/engine';
import {
  identityUri,
  parseIdentityUri,
  MinikeepError,
  toMinikeepError,
  type Identity,
} from '@minikeep/protocol';
import { CONNECT_TIMEOUT_MS } from '@minikeep/protocol';
import { FrameSender, type CredentialPems, type TakeFrame } from '@minikeep/protocol/rpc';

/** Frames that the engine may hold at once: steps in flight of a pipeline, with room. */
const FRAMES_HELD_MAX = 300;

export interface StageCounters {
  readonly framesIn: number;
  readonly framesOut: number;
  readonly framesSent: number;
  /** Age of the oldest frame that the engine holds; 0 when it holds none. */
  readonly oldestSeconds: number;
}

export interface StageOptions {
  readonly deployment: string;
  readonly epoch: number;
  readonly credentials: CredentialPems;
  readonly engine: EngineClient;
  /** A neighbour's stream broke. */
  onFault(downstream: boolean, neighbour: string, error: MinikeepError): void;
}

export class Stage {
  readonly #options: StageOptions;
  #upstream: Identity | undefined;
  #attached = false;
  #downstream: FrameSender | undefined;
  #closed = false;
  /** Ends the waiting for a neighbour that will never be ready again. */
  #wake: () => void = () => {};
  #framesIn = 0;
  #framesOut = 0;
  #framesSent = 0;
  /** When each frame that the engine holds went in (monotonic ms); it answers in order. */
  readonly #held: number[] = [];

  constructor(options: StageOptions) {
    this.#options = options;
  }

  get epoch(): number {
    return this.#options.epoch;
  }

  /** Accepts frames from `upstream` only, and opens the stream to `downstream`; resolves when that one accepted. */
  async connect(upstream: string, downstream: string, address: string): Promise<void> {
    const from = parseIdentityUri(upstream);
    const to = parseIdentityUri(downstream);
    if (from === undefined || to === undefined)
      throw new MinikeepError('pipeline.neighbour_invalid', 'a neighbour has no valid identity', {
        next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
      });
    if (this.#downstream !== undefined)
      throw new MinikeepError('pipeline.already_connected', 'this stage is already connected', {
        next: 'Deploy again: a new epoch begins with new stages.',
      });
    this.#upstream = from;
    const sender = new FrameSender({
      address,
      credentials: this.#options.credentials,
      neighbour: to,
      deployment: this.#options.deployment,
      epoch: this.#options.epoch,
      onEnd: (error) => {
        if (error !== undefined && !this.#closed)
          this.#options.onFault(true, to.name, toMinikeepError(error));
      },
    });
    this.#downstream = sender;
    const timer = setTimeout(() => sender.close(), CONNECT_TIMEOUT_MS * 2);
    try {
      await sender.accepted;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Takes the upstream neighbour's frames until its stream ends. Throws for anyone else, and for a second stream. */
  async receive(
    peer: Identity,
    epoch: number,
    frames: (take: TakeFrame) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    this.checkSender(peer, epoch);
    this.#attached = true;
    try {
      await frames((frame) => {
        if (this.#held.length >= FRAMES_HELD_MAX)
          throw new MinikeepError(
            'pipeline.too_many_frames',
            `${peer.name} sends more steps than may be in flight`,
            {
              next: 'The coordinator or that node runs another version: compare versions with `minikeep nodes`.',
            },
          );
        this.#framesIn++;
        this.#held.push(performance.now());
        return this.#options.engine.sendFrame(frame);
      });
      if (!this.#closed) this.#options.onFault(false, peer.name, streamEnded(peer.name));
    } catch (thrown) {
      const error = signal.aborted ? streamEnded(peer.name) : toMinikeepError(thrown);
      if (!this.#closed) this.#options.onFault(false, peer.name, error);
      throw error;
    }
  }

  /** Throws `access.denied` unless the stream may be opened. */
  checkSender(peer: Identity, epoch: number): void {
    const { deployment } = this.#options;
    const why =
      this.#upstream === undefined
        ? `the stage of ${deployment} is not connected`
        : identityUri(peer) !== identityUri(this.#upstream)
          ? `${identityUri(peer)} is not the neighbour of this stage of ${deployment}`
          : epoch !== this.#options.epoch
            ? `epoch ${epoch} of ${deployment} is not the current one (${this.#options.epoch})`
            : this.#attached
              ? `this stage of ${deployment} already has a stream from its neighbour`
              : undefined;
    if (why === undefined) return;
    throw new MinikeepError('access.denied', `frames refused: ${why}`, {
      next: 'Only the neighbour of the current epoch may send frames.',
      exitCode: 5,
    });
  }

  /** A frame came out of the engine. Resolves when the next may be read. */
  forward(payload: Uint8Array): Promise<void> | void {
    this.#framesOut++;
    this.#held.shift();
    const sender = this.#downstream;
    if (sender === undefined || this.#closed) return undefined;
    this.#framesSent++;
    if (sender.send(payload)) return undefined;
    return new Promise((resolve) => {
      sender.onceDrained(resolve);
      this.#wake = resolve;
    });
  }

  /** The engine refused a step: it holds one frame less, and nothing comes out for it. */
  dropped(): void {
    this.#held.shift();
  }

  counters(): StageCounters {
    const [oldest] = this.#held;
    return {
      framesIn: this.#framesIn,
      framesOut: this.#framesOut,
      framesSent: this.#framesSent,
      oldestSeconds: oldest === undefined ? 0 : (performance.now() - oldest) / 1000,
    };
  }

  close(): void {
    this.#closed = true;
    this.#downstream?.close();
    this.#wake();
  }
}

function streamEnded(neighbour: string): MinikeepError {
  return new MinikeepError('pipeline.stream_lost', `${neighbour} ended its stream of frames`, {
    next: 'Look at that node: `minikeep status` shows whether its agent runs.',
    exitCode: 4,
  });
}
