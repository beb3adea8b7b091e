/**
 * The sending end of the frames between two neighbours, whichever links there are. Every frame is kept until the
 * neighbour has acknowledged it. When a link goes, the best one that is left carries on with the first frame that the
 * neighbour lacks; when a better one comes, the stream moves there in the same way. The engines on both sides see one
 * unbroken row of frames.
 */
import { randomBytes } from 'node:crypto';
import type { MinikeepError } from './errors.ts';
import { FrameStream, streamLost, type FrameRoute } from './frame-stream.ts';
import { numberFrame } from './frames.ts';
import { CONNECT_TIMEOUT_MS, RECONNECT_MS } from './limits.ts';

/** Acknowledgements come every few frames: more than this only while the neighbour is away. */
const KEPT_FRAMES_FULL = 256;
const KEPT_BYTES_FULL = 256 * 1024 * 1024;
/** Whoever goes on sending although the link is full; steps in flight are far fewer. */
const KEPT_FRAMES_MAX = 2_048;
const KEPT_BYTES_MAX = 1024 * 1024 * 1024;
/** The next best way is tried beside the best one when that has not answered in this time. */
const STAGGER_MS = 250;
const RETRY_MS = 200;
const SENDER_BYTES = 8;

export interface FrameLinkOptions extends Omit<FrameRoute, 'sender'> {
  /** Addresses of the neighbour, host:port, the best first; asked before each attempt. */
  ways(): readonly string[];
  /** How long another way is looked for. */
  readonly patienceMs?: number;
  /** It is over, whoever ended it; once. Without an error when `close` was called. */
  onEnd(error: MinikeepError | undefined): void;
  /** Frames go over this address now; undefined: the link is broken, and another way is looked for. */
  onWay?(address: string | undefined): void;
}

export class FrameLink {
  readonly #options: FrameLinkOptions;
  readonly #route: FrameRoute;
  /** Resolves when the neighbour accepted the first stream; rejects when it never does. */
  readonly accepted: Promise<void>;
  readonly #onAccepted = Promise.withResolvers<void>();
  /** Messages that are not acknowledged yet, the first of them with number `#acknowledged`. */
  readonly #kept: Buffer[] = [];
  #keptBytes = 0;
  #acknowledged = 0;
  /** The stream that the neighbour has accepted. */
  #stream: FrameStream | undefined;
  #way: string | undefined;
  /** Streams that are being opened: closed with the link. */
  readonly #opening = new Set<FrameStream>();
  /** Ways that broke last: tried after the others. */
  #brokenWay: string | undefined;
  #lostAtMs: number | undefined;
  #move: Promise<void> | undefined;
  #drained: (() => void)[] = [];
  #ended = false;

  constructor(options: FrameLinkOptions) {
    this.#options = options;
    this.#route = { ...options, sender: randomBytes(SENDER_BYTES).toString('hex') };
    this.accepted = this.#onAccepted.promise;
    // Whoever does not wait for acceptance hears of the failure by onEnd.
    this.accepted.catch(() => {});
    void this.#connectFirst();
  }

  /** The neighbour's address that is in use. */
  get way(): string | undefined {
    return this.#way;
  }

  /** Seconds since the link broke; 0 while it holds. */
  get brokenSeconds(): number {
    return this.#lostAtMs === undefined ? 0 : (performance.now() - this.#lostAtMs) / 1000;
  }

  /** Sends one frame. False: the neighbour is behind; wait for `onceDrained` before sending more. */
  send(payload: Uint8Array): boolean {
    if (this.#ended) return true;
    const message = numberFrame(payload, this.#acknowledged + this.#kept.length);
    this.#kept.push(message);
    this.#keptBytes += message.byteLength;
    if (this.#kept.length > KEPT_FRAMES_MAX || this.#keptBytes > KEPT_BYTES_MAX) {
      this.#end(streamLost(this.#options.neighbour.name, 'too many frames wait for it'));
      return true;
    }
    const room = this.#stream?.write(message) ?? true;
    return room && !this.#full;
  }

  /** Calls back once, when there is room again or the link is over. */
  onceDrained(callback: () => void): void {
    if (this.#ended) callback();
    else this.#drained.push(callback);
    this.#stream?.onceDrained(() => this.#tellDrained());
  }

  /** The ways are others, or in another order, than before: the stream moves if it is not on the best one. */
  reconsider(): void {
    const [best] = this.#options.ways();
    if (this.#stream === undefined || best === undefined || best === this.#way) return;
    this.#move ??= this.#moveTo(best).finally(() => {
      this.#move = undefined;
    });
  }

  close(): void {
    this.#end(undefined);
  }

  /** The error of a first attempt is the caller's to judge: said as it is, at once. */
  async #connectFirst(): Promise<void> {
    const ways = this.#options.ways();
    if (ways.length > 1) {
      await this.#reconnect();
      return;
    }
    const stream = new FrameStream(ways[0] ?? '', this.#route);
    this.#opening.add(stream);
    const error = await this.#open(stream, ways[0] ?? '');
    if (error !== undefined) this.#end(error);
  }

  /** Resolves when the stream carries the frames, or with the reason why it does not. */
  #open(stream: FrameStream, way: string): Promise<MinikeepError | undefined> {
    return new Promise((resolve) => {
      stream.open({
        onAck: (received) => {
          if (this.#ended) return;
          if (this.#stream !== stream) {
            if (!this.#opening.delete(stream)) return;
            if (!this.#adopt(stream, way, received)) return;
            resolve(undefined);
          } else this.#acknowledge(received);
        },
        onEnd: (error, final) => {
          this.#opening.delete(stream);
          resolve(error);
          const carries = this.#stream === stream;
          // While another stream carries, this one was only a try.
          if (final && (carries || this.#stream === undefined)) this.#end(error);
          else if (carries) this.#broke();
        },
      });
    });
  }

  /** From here on frames go over this stream, first of all those that the neighbour lacks. */
  #adopt(stream: FrameStream, way: string, received: number): boolean {
    this.#stream?.close();
    this.#stream = stream;
    this.#way = way;
    this.#brokenWay = undefined;
    this.#lostAtMs = undefined;
    if (!this.#acknowledge(received)) return false;
    for (const message of this.#kept) stream.write(message);
    // Who waited for the stream before would wait for ever.
    if (!this.#full) this.#tellDrained();
    this.#onAccepted.resolve();
    this.#options.onWay?.(way);
    return true;
  }

  #acknowledge(received: number): boolean {
    const count = received - this.#acknowledged;
    if (!Number.isSafeInteger(received) || count < 0 || count > this.#kept.length) {
      this.#end(streamLost(this.#options.neighbour.name, 'it lacks frames that it had'));
      return false;
    }
    if (count === 0) return true;
    for (const message of this.#kept.splice(0, count)) this.#keptBytes -= message.byteLength;
    this.#acknowledged = received;
    if (!this.#full) this.#tellDrained();
    return true;
  }

  get #full(): boolean {
    return this.#kept.length >= KEPT_FRAMES_FULL || this.#keptBytes >= KEPT_BYTES_FULL;
  }

  #tellDrained(): void {
    for (const callback of this.#drained.splice(0)) callback();
  }

  #broke(): void {
    this.#stream = undefined;
    this.#brokenWay = this.#way;
    this.#way = undefined;
    this.#options.onWay?.(undefined);
    void this.#reconnect();
  }

  /** Tries the ways, the best first, until one carries; gives up when its patience ends. */
  async #reconnect(): Promise<void> {
    this.#lostAtMs ??= performance.now();
    // The neighbour ends the old stream when it accepts the new one, and that may be heard first.
    await this.#move;
    if (this.#stream !== undefined) return;
    let error = streamLost(this.#options.neighbour.name, 'nobody answers');
    const patienceMs = this.#options.patienceMs ?? RECONNECT_MS;
    while (!this.#ended && this.brokenSeconds * 1000 < patienceMs) {
      const found = await this.#race();
      if (this.#ended) {
        found?.stream.close();
        return;
      }
      if (found !== undefined) {
        const refused = await this.#open(found.stream, found.way);
        if (refused === undefined || this.#ended) return;
        error = refused;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.#end(error);
  }

  /** Connects to all ways, the better ones with a start; the first that answers is it. */
  async #race(): Promise<{ stream: FrameStream; way: string } | undefined> {
    const known = [...new Set(this.#options.ways())];
    const ways = [
      ...known.filter((way) => way !== this.#brokenWay),
      ...known.filter((way) => way === this.#brokenWay),
    ];
    const won = Promise.withResolvers<{ stream: FrameStream; way: string } | undefined>();
    let decided = false;
    const tries = ways.map(async (way, i) => {
      if (i > 0) await new Promise((resolve) => setTimeout(resolve, STAGGER_MS * i));
      if (decided || this.#ended) return;
      const stream = new FrameStream(way, this.#route);
      this.#opening.add(stream);
      const ready = await stream.ready(CONNECT_TIMEOUT_MS);
      if (ready && !decided && !this.#ended) {
        decided = true;
        won.resolve({ stream, way });
        return;
      }
      this.#opening.delete(stream);
      stream.close();
    });
    void Promise.all(tries).then(() => won.resolve(undefined));
    const found = await won.promise;
    decided = true;
    for (const stream of this.#opening)
      if (stream !== found?.stream) {
        this.#opening.delete(stream);
        stream.close();
      }
    return found;
  }

  /** The old stream carries on until the new one is accepted. */
  async #moveTo(way: string): Promise<void> {
    const stream = new FrameStream(way, this.#route);
    this.#opening.add(stream);
    try {
      const ready = await stream.ready(CONNECT_TIMEOUT_MS);
      // A link that broke meanwhile has its own way of going on.
      if (ready && !this.#ended && this.#stream !== undefined) await this.#open(stream, way);
    } finally {
      if (this.#opening.delete(stream)) stream.close();
    }
  }

  #end(error: MinikeepError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const stream of [this.#stream, ...this.#opening]) stream?.close();
    this.#opening.clear();
    this.#stream = undefined;
    this.#kept.length = this.#keptBytes = 0;
    const lost = error ?? streamLost(this.#options.neighbour.name, 'the stream was closed');
    this.#onAccepted.reject(lost);
    this.#tellDrained();
    this.#options.onEnd(error);
  }
}
