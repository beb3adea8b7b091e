/**
 * One stage on its node: frames from the previous neighbour into the engine, frames out of the engine to the next one.
 * Opaque bytes both ways. Back-pressure is passed on: a slow engine stops the reading from upstream, a slow neighbour
 * stops the reading from the engine; nothing is queued here.
 *
 * Each connection is a session. A coordinator that was started again connects an engine that still runs: the streams
 * of the session before end first, and the engine finishes the frames that it holds; what comes out of it until then
 * goes nowhere. So no frame of a session is ever seen by another one. Within a session the streams may change from link
 * to link: no frame is lost or taken twice (frame-link.ts, frame-inlet.ts of the protocol package).
 */
import type { EngineClient } from '@minikeep/engine';
import { identityUri, parseIdentityUri, MinikeepError, type Identity } from '@minikeep/protocol';
import { CONNECT_TIMEOUT_MS } from '@minikeep/protocol';
import { FrameInlet, FrameLink, type CredentialPems } from '@minikeep/protocol/rpc';

/** As long as one step may take before its stage counts as stalled. */
const DRAIN_TIMEOUT_MS = 120_000;
/** Frames that the engine may hold at once: steps in flight of a pipeline, with room. */
const FRAMES_HELD_MAX = 300;

export interface StageCounters {
  readonly framesIn: number;
  readonly framesOut: number;
  readonly framesSent: number;
  /** Age of the oldest frame that the engine holds; 0 when it holds none. */
  readonly oldestSeconds: number;
  /** Since the link to the next neighbour broke; 0 while it holds. */
  readonly linkBrokenSeconds: number;
}

export interface StageOptions {
  readonly deployment: string;
  readonly epoch: number;
  readonly credentials: CredentialPems;
  readonly engine: EngineClient;
  /** A neighbour's stream of that session broke. */
  onFault(fault: StageFault): void;
}

export interface StageFault {
  readonly session: number;
  readonly downstream: boolean;
  readonly neighbour: string;
  readonly error: MinikeepError;
}

export interface StageConnection {
  readonly session: number;
  /** Certificate names of the neighbours. */
  readonly upstream: string;
  readonly downstream: string;
  /** Where the next neighbour is reached, host:port, the best first; asked whenever a way is looked for. */
  downstreamWays(): readonly string[];
  /** Frames go this way now; undefined: the link broke. */
  onWay(address: string | undefined): void;
  /** No frames go there any more. */
  onOver(): void;
}

export class Stage {
  readonly #options: StageOptions;
  /** 0 before the first connection. */
  #session = 0;
  /** Who may send; nobody while the engine finishes what it holds of the session before. */
  #upstream: Identity | undefined;
  /** What comes from upstream, over one stream after the other. */
  #inlet: FrameInlet | undefined;
  #downstream: FrameLink | undefined;
  #closed = false;
  /** Ends the waiting for a neighbour that will never be ready again. */
  #wake: () => void = () => {};
  /** Ends the waiting for an engine that holds frames of the session before. */
  #emptied: () => void = () => {};
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

  get session(): number {
    return this.#session;
  }

  /**
   * Begins a session: ends the streams of the one before, waits until the engine holds none of its frames, accepts
   * frames from `upstream` only, and opens the stream to `downstream`; resolves when that one accepted.
   * Throws `pipeline.neighbour_invalid`, `pipeline.stale_session`, `pipeline.not_drained`, `pipeline.stream_lost`.
   */
  async connect(connection: StageConnection, signal?: AbortSignal): Promise<void> {
    const { session } = connection;
    const from = parseIdentityUri(connection.upstream);
    const to = parseIdentityUri(connection.downstream);
    if (from === undefined || to === undefined)
      throw new MinikeepError('pipeline.neighbour_invalid', 'a neighbour has no valid identity', {
        next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
      });
    if (session <= this.#session) throw this.#stale(session);
    this.#session = session;
    this.#endSession();
    await this.#drained(signal);
    if (this.#session !== session || this.#closed) throw this.#stale(session);
    this.#upstream = from;
    this.#inlet = this.#newInlet(session, from);
    const sender = new FrameLink({
      ways: () => connection.downstreamWays(),
      onWay: (address) => connection.onWay(address),
      credentials: this.#options.credentials,
      neighbour: to,
      deployment: this.#options.deployment,
      epoch: this.#options.epoch,
      session,
      onEnd: (error) => {
        if (this.#downstream === sender) this.#dropDownstream();
        // A session that follows may use the same neighbour.
        if (session === this.#session) connection.onOver();
        if (error !== undefined) this.#fault(session, true, to.name, error);
      },
    });
    this.#downstream = sender;
    const close = (): void => sender.close();
    const timer = setTimeout(close, CONNECT_TIMEOUT_MS * 2);
    signal?.addEventListener('abort', close, { once: true });
    try {
      await sender.accepted;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', close);
    }
  }

  /** For a stream of the upstream neighbour. Throws `access.denied` for anyone else, and for a second sender. */
  inletFor(peer: Identity, epoch: number, session: number, sender: string): FrameInlet {
    this.#checkSender(peer, epoch, session, sender);
    return this.#inlet as FrameInlet;
  }

  /** The neighbour's addresses are others, or another one is better. */
  reconsiderWays(): void {
    this.#downstream?.reconsider();
  }

  #newInlet(session: number, from: Identity): FrameInlet {
    return new FrameInlet({
      sender: from.name,
      take: (frame) => {
        if (this.#held.length >= FRAMES_HELD_MAX) throw tooManyFrames(from.name);
        this.#framesIn++;
        this.#held.push(performance.now());
        return this.#options.engine.sendFrame(frame);
      },
      onLost: (error) => this.#fault(session, false, from.name, error),
    });
  }

  #checkSender(peer: Identity, epoch: number, session: number, sender: string): void {
    const { deployment } = this.#options;
    const why =
      this.#upstream === undefined
        ? `the stage of ${deployment} is not connected`
        : identityUri(peer) !== identityUri(this.#upstream)
          ? `${identityUri(peer)} is not the neighbour of this stage of ${deployment}`
          : epoch !== this.#options.epoch
            ? `epoch ${epoch} of ${deployment} is not the current one (${this.#options.epoch})`
            : session !== this.#session
              ? `session ${session} of ${deployment} is not the current one (${this.#session})`
              : (this.#inlet?.senderId ?? sender) !== sender
                ? `this stage of ${deployment} already has a stream from its neighbour`
                : this.#inlet?.over === true
                  ? `this stage of ${deployment} has given up its neighbour`
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
    this.#took();
    const sender = this.#downstream;
    if (sender === undefined || this.#closed) return undefined;
    this.#framesSent++;
    if (sender.send(payload)) return undefined;
    return new Promise((resolve) => {
      sender.onceDrained(resolve);
      this.#wake = resolve;
    });
  }

  /**
   * The engine refused a step: it holds one frame less, and nothing comes out for it. False: nobody waits for that
   * step, its session is over.
   */
  dropped(): boolean {
    const counts = this.#upstream !== undefined;
    this.#took();
    return counts;
  }

  counters(): StageCounters {
    const [oldest] = this.#held;
    return {
      framesIn: this.#framesIn,
      framesOut: this.#framesOut,
      framesSent: this.#framesSent,
      oldestSeconds: oldest === undefined ? 0 : (performance.now() - oldest) / 1000,
      linkBrokenSeconds: this.#downstream?.brokenSeconds ?? 0,
    };
  }

  close(): void {
    this.#closed = true;
    this.#endSession();
    this.#emptied();
  }

  /** The engine is done with its oldest frame. */
  #took(): void {
    this.#held.shift();
    if (this.#held.length === 0) this.#emptied();
  }

  /** From here on nothing goes into the engine, and what comes out of it goes nowhere. */
  #endSession(): void {
    this.#upstream = undefined;
    this.#inlet?.close(this.#stale(this.#session));
    this.#inlet = undefined;
    this.#dropDownstream();
  }

  #dropDownstream(): void {
    this.#downstream?.close();
    this.#downstream = undefined;
    this.#wake();
  }

  async #drained(signal: AbortSignal | undefined): Promise<void> {
    if (this.#held.length === 0) return;
    const either = AbortSignal.any([
      AbortSignal.timeout(DRAIN_TIMEOUT_MS),
      ...(signal === undefined ? [] : [signal]),
    ]);
    await new Promise<void>((resolve) => {
      this.#emptied = resolve;
      either.addEventListener('abort', () => resolve(), { once: true });
    });
    if (this.#held.length === 0 || this.#closed) return;
    throw new MinikeepError(
      'pipeline.not_drained',
      `the engine still holds ${this.#held.length} steps from before`,
      { next: 'Wait: it is started anew.' },
    );
  }

  /** Of a session that goes on; what ends with it is no fault. */
  #fault(session: number, downstream: boolean, neighbour: string, error: MinikeepError): void {
    if (this.#closed || session !== this.#session) return;
    this.#options.onFault({ session, downstream, neighbour, error });
  }

  #stale(session: number): MinikeepError {
    const { deployment } = this.#options;
    return new MinikeepError(
      'pipeline.stale_session',
      `session ${session} of ${deployment} is over`,
      { next: 'Another coordinator or an old request: see `minikeep status`.' },
    );
  }
}

function tooManyFrames(neighbour: string): MinikeepError {
  return new MinikeepError(
    'pipeline.too_many_frames',
    `${neighbour} sends more steps than may be in flight`,
    {
      next: 'The coordinator or that node runs another version: compare versions with `minikeep nodes`.',
    },
  );
}
