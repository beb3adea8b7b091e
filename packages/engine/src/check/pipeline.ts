/**
 * Stages in a row on this machine, fed one step at a time: what `model check` and the conformance suite compare.
 * Frames go from engine to engine as they are; only the first is made here and only the result is decoded.
 */
import type { SandboxPlatform } from '@minikeep/containment';
import {
  decodeFrame,
  encodeFrame,
  MinikeepError,
  ROWS,
  type ResultFrame,
  type StepFrame,
} from '@minikeep/protocol';
import type { EngineClient, EngineEvent } from '../client/engine-client.ts';
import { startEngine } from '../client/start-engine.ts';
import type { ContextSettings, LoadStage } from '../messages.ts';

/** One stage's files and place. */
export interface StageFile {
  readonly slice: string;
  readonly embedding?: string;
  readonly layers: readonly [number, number];
  readonly first: boolean;
  readonly last: boolean;
}

export interface PipelineOptions {
  readonly platform: SandboxPlatform;
  readonly context: ContextSettings;
  /** The folder with the engine's program and libraries; where this program lies unless given. */
  readonly programs?: string;
  readonly signal?: AbortSignal;
}

/** What a step does, without the numbering that the pipeline adds. */
export type StepInput = Pick<StepFrame, 'ops' | 'spans' | 'tokens'>;

const STEP_TIMEOUT_MS = 10 * 60_000;

export class Pipeline {
  readonly vocabSize: number;
  readonly #engines: readonly EngineClient[];
  readonly #failure: Failure;
  #pending: PromiseWithResolvers<ResultFrame> | undefined;
  #step = 0;

  private constructor(engines: readonly EngineClient[], failure: Failure) {
    this.#engines = engines;
    this.#failure = failure;
    this.vocabSize = engines.at(-1)?.ready.n_vocab ?? 0;
    for (const [index, engine] of engines.entries()) {
      const next = engines[index + 1];
      engine.onFrame((frame) => (next === undefined ? this.#take(frame) : next.sendFrame(frame)));
    }
  }

  /** Loads all stages at once. Throws what the first failing engine said; no process is left then. */
  static async start(files: readonly StageFile[], options: PipelineOptions): Promise<Pipeline> {
    const failure = new Failure(options.signal);
    const started = await Promise.allSettled(
      files.map(async (file) => {
        try {
          return await startStage(file, options, failure);
        } catch (thrown) {
          failure.fail(thrown);
          throw thrown;
        }
      }),
    );
    const engines = started.filter((s) => s.status === 'fulfilled').map((s) => s.value);
    if (engines.length === files.length && failure.error === undefined)
      return new Pipeline(engines, failure);
    failure.close();
    await Promise.all(engines.map((engine) => engine.kill('another stage did not load')));
    throw failure.error;
  }

  /** One step through all stages, one at a time. Throws an engine's error, `check.timeout`, or the signal's reason. */
  async step(input: StepInput): Promise<ResultFrame> {
    const [first] = this.#engines;
    if (first === undefined || this.#pending !== undefined) throw new Error('a step is under way');
    const frame = encodeFrame({
      kind: 'step',
      epoch: 1,
      step: ++this.#step,
      ...input,
      timings: [],
      rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array(0) },
    });
    this.#pending = Promise.withResolvers();
    const result = this.#pending.promise;
    const timer = setTimeout(() => this.#failure.fail(tooSlow()), STEP_TIMEOUT_MS);
    try {
      await this.#failure.or(first.sendFrame(frame));
      return await this.#failure.or(result);
    } finally {
      clearTimeout(timer);
      this.#pending = undefined;
    }
  }

  /** Ends all engines; none is left when it resolves. */
  async stop(): Promise<void> {
    this.#failure.close();
    await Promise.all(this.#engines.map((engine) => engine.stop()));
  }

  #take(payload: Uint8Array): void {
    const frame = decodeFrame(payload);
    if (frame.kind === 'result') this.#pending?.resolve(frame);
    else this.#failure.fail(new Error('the last stage answered with a step'));
  }
}

async function startStage(
  file: StageFile,
  { platform, context, programs }: PipelineOptions,
  failure: Failure,
): Promise<EngineClient> {
  const load: LoadStage = { type: 'load_stage', ...file, logits: true, context };
  return startEngine({
    platform,
    load,
    signal: failure.signal,
    ...(programs === undefined ? {} : { programs }),
    onEvent: (event) => failure.onEvent(event),
  });
}

/** The first thing that went wrong anywhere, and whoever waits hears of it. */
class Failure {
  readonly #abort = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #failed = Promise.withResolvers<never>();
  error: unknown;

  constructor(outer: AbortSignal | undefined) {
    this.#outer = outer;
    // Heard when something waits; in between it is kept for the next step.
    this.#failed.promise.catch(() => {});
    if (outer?.aborted === true) this.#cancel();
    outer?.addEventListener('abort', this.#cancel, { once: true });
  }

  readonly #cancel = (): void => this.fail(this.#outer?.reason);

  /** Aborted when anything failed. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  fail(error: unknown): void {
    if (this.error !== undefined) return;
    this.error = error ?? new Error('stopped');
    this.#failed.reject(this.error);
    this.#abort.abort();
  }

  onEvent(event: EngineEvent): void {
    if (event.type === 'step_error')
      this.fail(
        new MinikeepError(event.error.code, event.error.message, { next: event.error.next }),
      );
    if (event.type === 'exited' && event.error !== undefined) this.fail(event.error);
  }

  or<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed.promise]);
  }

  close(): void {
    this.#outer?.removeEventListener('abort', this.#cancel);
  }
}

const tooSlow = (): MinikeepError =>
  new MinikeepError('check.timeout', `a step took longer than ${STEP_TIMEOUT_MS / 1000} s`, {
    next: 'See whether the machine is busy or out of memory, then try again.',
  });
