/** Work of which a node does one at a time for whoever asks, told as a stream while it goes on. */
import { EventQueue, toMinikeepError, type MinikeepError } from '@minikeep/protocol';

export class OneAtATime<Event> {
  readonly #eventsMax: number;
  readonly #busyError: () => MinikeepError;
  #busy = false;

  /** `eventsMax`: more than one run has, so that a slow reader loses nothing. `busyError`: what a second one is told. */
  constructor(eventsMax: number, busyError: () => MinikeepError) {
    this.#eventsMax = eventsMax;
    this.#busyError = busyError;
  }

  /** Throws `busyError`'s while another run is under way, else what `work` does. */
  async *run(
    signal: AbortSignal,
    work: (push: (event: Event) => void, signal: AbortSignal) => Promise<void>,
  ): AsyncGenerator<Event, void, undefined> {
    if (this.#busy) throw this.#busyError();
    this.#busy = true;
    const ended = new AbortController();
    const events = new EventQueue<Event>(this.#eventsMax);
    const running = work(
      (event) => void events.push(event),
      AbortSignal.any([signal, ended.signal]),
    ).then(
      () => events.end(),
      (thrown: unknown) => events.end(toMinikeepError(thrown)),
    );
    try {
      yield* events;
    } finally {
      // Whoever stops listening ends the run; the next one waits until its processes are gone.
      ended.abort();
      await running;
      this.#busy = false;
    }
  }
}
