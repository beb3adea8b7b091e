/**
 * Runs the scheduler: feeds it with results, time and requests, and carries out what it answers. One for each epoch of
 * a deployment. The frames' stream to the first node is given; results come in through `result`.
 */
import {
  decodeFrame,
  encodeFrame,
  EventQueue,
  MinikeepError,
  ROWS,
  type SamplingParams,
} from '@minikeep/protocol';
import { newScheduler, type SchedulerState } from './scheduler/state.ts';
import { step } from './scheduler/step.ts';
import type {
  RequestSummary,
  SchedulerConfig,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerFinish,
} from './scheduler/types.ts';

const TICK_MS = 250;
/** Events beyond the tokens that one answer can have: prefill progress and the ends. */
const EXTRA_EVENTS = 10_000;

export type AnswerEvent =
  | { readonly type: 'prefill'; readonly doneTokens: number; readonly totalTokens: number }
  | { readonly type: 'token'; readonly counts: boolean; readonly id: number; readonly text: string }
  | { readonly type: 'done'; readonly finish: SchedulerFinish; readonly summary: RequestSummary };

export interface PipelineOptions {
  readonly epoch: number;
  readonly scheduler: SchedulerConfig;
  send(frame: Uint8Array): void;
  /** Nothing comes back: find out why, then call `stillWorking` or `fail`. */
  onStalled(step: number, silentMs: number): void;
}

type SendEffect = Extract<SchedulerEffect, { type: 'send' }>;

interface Answer {
  readonly events: EventQueue<AnswerEvent>;
  /** Characters never arrive in parts, but what an engine says is not trusted to be UTF-8. */
  readonly decoder: TextDecoder;
}

export class Pipeline {
  readonly #options: PipelineOptions;
  #state: SchedulerState;
  readonly #answers = new Map<number, Answer>();
  /** What is to be told after the steps were sent. */
  readonly #later: Exclude<SchedulerEffect, SendEffect>[] = [];
  #nextId = 1;
  #timer: NodeJS.Timeout | undefined;
  #error: MinikeepError | undefined;
  #swept: { resolve(): void; reject(error: MinikeepError): void } | undefined;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#state = newScheduler(options.scheduler);
  }

  get activeSequences(): number {
    return this.#state.active.size;
  }

  get queuedRequests(): number {
    return this.#state.queue.length;
  }

  /** Why the pipeline has failed. */
  get error(): MinikeepError | undefined {
    return this.#error;
  }

  /** Computes one answer. Leaving the iteration or aborting the signal frees its sequence. Throws why it failed. */
  async *answer(
    prompt: Int32Array,
    maxTokens: number,
    sampling: SamplingParams,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerEvent, void, undefined> {
    if (this.#error !== undefined) throw this.#error;
    const id = this.#nextId++;
    const { contextTokens } = this.#options.scheduler;
    const events = new EventQueue<AnswerEvent>(contextTokens + EXTRA_EVENTS);
    this.#answers.set(id, { events, decoder: new TextDecoder() });
    const abort = (): void => events.end();
    signal.addEventListener('abort', abort, { once: true });
    try {
      // Whoever has gone already would hear no event of it, and the sequence would run to its end.
      if (signal.aborted) return;
      const blob = new TextEncoder().encode(JSON.stringify(sampling));
      this.#feed({
        type: 'submit',
        request: { id, prompt, maxTokens, sampling: blob },
        nowMs: performance.now(),
      });
      yield* events;
    } finally {
      signal.removeEventListener('abort', abort);
      this.#answers.delete(id);
      this.#feed({ type: 'cancel', id, nowMs: performance.now() });
    }
  }

  /**
   * For stages that have computed before: closes every sequence that they may still hold. Resolves when a step has gone
   * through all of them and come back. Before the first answer.
   */
  sweep(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#error !== undefined) {
        reject(this.#error);
        return;
      }
      this.#swept = { resolve, reject };
      this.#feed({ type: 'sweep', nowMs: performance.now() });
    });
  }

  /** A frame from the last stage. A malformed or foreign one ends the pipeline. */
  result(payload: Uint8Array): void {
    let frame;
    try {
      frame = decodeFrame(payload);
    } catch (error) {
      this.fail(error as MinikeepError);
      return;
    }
    if (frame.kind !== 'result' || frame.epoch !== this.#options.epoch) {
      this.fail(
        new MinikeepError(
          'pipeline.malformed',
          'the last stage sent something else than a result',
          {
            next: 'A stage runs another version or is faulty: deploy again.',
          },
        ),
      );
      return;
    }
    const { step: number, outputs, timings } = frame;
    this.#feed({ type: 'result', step: number, outputs, timings, nowMs: performance.now() });
  }

  stepFailed(number: number, error: MinikeepError): void {
    this.#feed({ type: 'step_failed', step: number, error, nowMs: performance.now() });
  }

  stillWorking(): void {
    this.#feed({ type: 'still_working', nowMs: performance.now() });
  }

  /** Ends every answer with this error; the first one counts. */
  fail(error: MinikeepError): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#swept?.reject(error);
    this.#feed({ type: 'fail', error, nowMs: performance.now() });
  }

  #feed(event: SchedulerEvent): void {
    const { state, effects } = step(this.#state, event);
    this.#state = state;
    let sent = false;
    for (const effect of effects)
      if (effect.type === 'send') {
        sent = true;
        this.#send(effect);
      } else this.#later.push(effect);
    // Nobody may wait for a token to be told before the next one is computed: it is told once the step is on its way.
    if (sent) setImmediate(() => this.#tell());
    else this.#tell();
    if (this.#error === undefined) this.#keepTime();
  }

  #send({ step: number, ops, spans, tokens }: SendEffect): void {
    const rows = { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() };
    const { epoch } = this.#options;
    this.#options.send(
      encodeFrame({ kind: 'step', epoch, step: number, ops, spans, tokens, timings: [], rows }),
    );
  }

  /** What the scheduler had to say, in its order. */
  #tell(): void {
    for (const effect of this.#later.splice(0)) this.#carryOut(effect);
  }

  #carryOut(effect: Exclude<SchedulerEffect, SendEffect>): void {
    switch (effect.type) {
      case 'prefill': {
        const { id, doneTokens, totalTokens } = effect;
        this.#answers.get(id)?.events.push({ type: 'prefill', doneTokens, totalTokens });
        return;
      }
      case 'token': {
        const answer = this.#answers.get(effect.id);
        const text = answer?.decoder.decode(effect.text, { stream: true }) ?? '';
        const { counts, token } = effect;
        answer?.events.push({ type: 'token', counts, id: token, text });
        return;
      }
      case 'done': {
        const { id, finish, summary } = effect;
        const answer = this.#answers.get(id);
        answer?.events.push({ type: 'done', finish, summary });
        answer?.events.end();
        return;
      }
      case 'failed':
        this.#answers.get(effect.id)?.events.end(effect.error);
        // A scheduler that found the pipeline out of order has ended it.
        if (this.#state.failed) this.fail(effect.error);
        return;
      case 'stalled':
        this.#options.onStalled(effect.step, effect.silentMs);
        return;
      case 'swept':
        this.#swept?.resolve();
        return;
      case 'started':
        return;
    }
  }

  /** Time passes for the scheduler only while something is under way. */
  #keepTime(): void {
    const busy = this.#state.inFlight.length > 0;
    if (busy && this.#timer === undefined)
      this.#timer = setInterval(
        () => this.#feed({ type: 'tick', nowMs: performance.now() }),
        TICK_MS,
      );
    if (!busy && this.#timer !== undefined) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
