/**
 * Spreads what happens on a node to everyone who watches. A watcher that does not read loses events, and is told how
 * many; one whose link was cut watches again, and hears what happened meanwhile.
 */
import { randomBytes } from 'node:crypto';
import { EventQueue, MinikeepError } from '@minikeep/protocol';
import type {
  EventsDropped,
  LinkState,
  SealEvidence,
  WatchRequest,
  WatchResponse,
} from '@minikeep/protocol/v1';
import { memoryAvailableBytes } from './machine.ts';

const WATCHERS_MAX = 16;
/** Room for a burst of violations; one refused attempt is about 200 bytes. */
const EVENTS_QUEUED_MAX = 2_000;
/**
 * What an engine can send as often as it likes leaves room in the queue for what it can't: a flood of log lines must
 * not push out the record of its attempts.
 */
const QUEUED_MAX: Readonly<Partial<Record<NodeEvent['$case'], number>>> = {
  engineLog: 1_000,
  stepFault: 1_500,
};
const HEARTBEAT_MS = 1_000;
/** Events that can be told again. */
const RECENT_MAX = 1_000;
const INSTANCE_BYTES = 8;

export type NodeEvent = NonNullable<WatchResponse['event']>;

interface Watcher {
  readonly queue: EventQueue<WatchResponse>;
  dropped: number;
  /** Of which refused attempts. */
  violationsDropped: number;
}

export class EventHub {
  readonly #watchers = new Set<Watcher>();
  readonly #heartbeat: NodeJS.Timeout;
  readonly #instance = randomBytes(INSTANCE_BYTES).toString('hex');
  /** The newest events, but for heartbeats and log lines. */
  readonly #recent: WatchResponse[] = [];
  #number = 0;
  #beats = 0;

  readonly #links: () => LinkState[];
  readonly #seal: () => SealEvidence | undefined;

  constructor(
    links: () => LinkState[] = () => [],
    seal: () => SealEvidence | undefined = () => undefined,
  ) {
    this.#links = links;
    this.#seal = seal;
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  emit(event: NodeEvent): void {
    this.#spread(event, this.#numbered(event));
  }

  #numbered(event: NodeEvent): WatchResponse {
    if (event.$case === 'heartbeat')
      return { event, number: this.#number, instance: this.#instance };
    if (event.$case === 'engineLog') return { event, number: 0, instance: '' };
    const response = { event, number: ++this.#number, instance: '' };
    this.#recent.push(response);
    if (this.#recent.length > RECENT_MAX) this.#recent.shift();
    return response;
  }

  #spread(event: NodeEvent, response: WatchResponse): void {
    const room = QUEUED_MAX[event.$case] ?? EVENTS_QUEUED_MAX;
    for (const watcher of this.#watchers) {
      if (watcher.queue.length >= room) {
        drop(watcher, event);
        continue;
      }
      if (watcher.dropped > 0) {
        const value = { count: watcher.dropped, violations: watcher.violationsDropped };
        const told = watcher.queue.push(dropped(value));
        if (told) watcher.dropped = watcher.violationsDropped = 0;
      }
      if (!watcher.queue.push(response)) drop(watcher, event);
    }
  }

  /**
   * Everything from now on, or since the event that `since` names, until the signal aborts or the hub closes.
   * Throws `node.too_many_watchers`, `node.restarted`.
   */
  async *watch(
    signal: AbortSignal,
    since: WatchRequest = { instance: '', after: 0 },
  ): AsyncGenerator<WatchResponse, void, undefined> {
    if (since.instance !== '' && since.instance !== this.#instance)
      throw new MinikeepError('node.restarted', 'the agent was started again', {
        next: 'Nothing: its engines ended with it, and deployments that are kept come back.',
      });
    if (this.#watchers.size >= WATCHERS_MAX)
      throw new MinikeepError('node.too_many_watchers', 'too many programs watch this node', {
        next: 'Close some of them.',
      });
    const watcher: Watcher = {
      queue: new EventQueue(EVENTS_QUEUED_MAX),
      dropped: 0,
      violationsDropped: 0,
    };
    this.#watchers.add(watcher);
    const stop = (): void => watcher.queue.end();
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    // The first beat tells the watcher that it is heard.
    watcher.queue.push(this.#numbered(this.#heartbeatEvent()));
    if (since.instance !== '')
      for (const response of this.#since(since.after)) watcher.queue.push(response);
    try {
      yield* watcher.queue;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#watchers.delete(watcher);
    }
  }

  /** What is too old to be told again may have been refused attempts: the record has a hole. */
  #since(after: number): WatchResponse[] {
    const known = this.#recent.filter(({ number }) => number > after);
    const missing = this.#number - after - known.length;
    return missing > 0 ? [dropped({ count: missing, violations: missing }), ...known] : known;
  }

  close(): void {
    clearInterval(this.#heartbeat);
    for (const watcher of this.#watchers) watcher.queue.end();
  }

  #beat(): void {
    this.#beats++;
    this.emit(this.#heartbeatEvent());
  }

  #heartbeatEvent(): NodeEvent {
    return {
      $case: 'heartbeat',
      value: {
        sequence: this.#beats,
        rssBytes: process.memoryUsage.rss(),
        memoryAvailableBytes: memoryAvailableBytes(),
        links: this.#links(),
        seal: this.#seal(),
      },
    };
  }
}

const dropped = (value: EventsDropped): WatchResponse => ({
  event: { $case: 'eventsDropped', value },
  number: 0,
  instance: '',
});

function drop(watcher: Watcher, event: NodeEvent): void {
  watcher.dropped++;
  if (event.$case === 'violation') watcher.violationsDropped += event.value.count;
}
