/** Spreads what happens on a node to everyone who watches. A watcher that does not read loses events, and is told how many. */
import { EventQueue, MinikeepError } from '@minikeep/protocol';
import type { WatchResponse } from '@minikeep/protocol/v1';
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
  #beats = 0;

  constructor() {
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#heartbeat.unref();
  }

  emit(event: NodeEvent): void {
    const room = QUEUED_MAX[event.$case] ?? EVENTS_QUEUED_MAX;
    for (const watcher of this.#watchers) {
      if (watcher.queue.length >= room) {
        drop(watcher, event);
        continue;
      }
      if (watcher.dropped > 0) {
        const value = { count: watcher.dropped, violations: watcher.violationsDropped };
        const told = watcher.queue.push({ event: { $case: 'eventsDropped', value } });
        if (told) watcher.dropped = watcher.violationsDropped = 0;
      }
      if (!watcher.queue.push({ event })) drop(watcher, event);
    }
  }

  /** Everything from now on, until the signal aborts or the hub closes. Throws `node.too_many_watchers`. */
  async *watch(signal: AbortSignal): AsyncGenerator<WatchResponse, void, undefined> {
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
    watcher.queue.push({ event: this.#heartbeatEvent() });
    try {
      yield* watcher.queue;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#watchers.delete(watcher);
    }
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
      },
    };
  }
}

function drop(watcher: Watcher, event: NodeEvent): void {
  watcher.dropped++;
  if (event.$case === 'violation') watcher.violationsDropped += event.value.count;
}
