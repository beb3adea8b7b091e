/**
 * Stages in a row on this machine, fed one step at a time: what `model check` and the conformance suite compare.
 * Frames go from engine to engine as they are; only the first is made here and only the result is decoded.
 */
import {
  decodeFrame,
  encodeFrame,
  MinikeepError,
  ROWS,
  type ResultFrame,
  type StepFrame,
} from '@minikeep/protocol';
import type { ContextSettings, EngineFault, LoadStage } from '../messages.ts';

/** What is needed of a running engine. */
export interface CheckStage {
  readonly ready: Promise<{ readonly n_vocab: number }>;
  /** Resolves with the reason when the process has ended. */
  readonly exited: Promise<string>;
  sendFrame(payload: Uint8Array): Promise<void> | void;
  stop(): Promise<void>;
}

export interface CheckStageListeners {
  onFrame(payload: Uint8Array): void;
  onStepError(error: EngineFault): void;
}

/** Starts one engine in its sandbox; `files` are the only ones it may read. */
export type StartCheckStage = (
  load: LoadStage,
  files: readonly string[],
  listeners: CheckStageListeners,
) => Promise<CheckStage>;

export interface StageFile {
  readonly slice: string;
  readonly embedding?: string;
  readonly layers: readonly [number, number];
  readonly first: boolean;
  readonly last: boolean;
}

/** What a step does, without the numbering that the pipeline adds. */
export type StepInput = Pick<StepFrame, 'ops' | 'spans' | 'tokens'>;

const LOAD_TIMEOUT_MS = 30 * 60_000;
const STEP_TIMEOUT_MS = 10 * 60_000;

interface Waiter {
  readonly resolve: (result: ResultFrame) => void;
  readonly reject: (error: Error) => void;
}

export class Pipeline {
  readonly vocabSize: number;
  readonly #state: PipelineState;

  private constructor(state: PipelineState, vocabSize: number) {
    this.#state = state;
    this.vocabSize = vocabSize;
  }

  /** Loads all stages at once. Throws what the first failing engine said; no process is left then. */
  static async start(
    start: StartCheckStage,
    files: readonly StageFile[],
    context: ContextSettings,
    signal?: AbortSignal,
  ): Promise<Pipeline> {
    const state = new PipelineState(files.length, signal);
    try {
      const vocabSize = await state.start(start, files, context);
      return new Pipeline(state, vocabSize);
    } catch (thrown) {
      await state.stop();
      throw thrown;
    }
  }

  /** One step through all stages. One at a time. */
  step(input: StepInput): Promise<ResultFrame> {
    return this.#state.step(input);
  }

  async stop(): Promise<void> {
    await this.#state.stop();
  }
}

/** The moving parts, so that a pipeline exists only when it is ready. */
class PipelineState {
  readonly #stages: CheckStage[] = [];
  readonly #count: number;
  readonly #failure: Promise<never>;
  readonly #signal: AbortSignal | undefined;
  #reject: (error: Error) => void = () => undefined;
  #waiter: Waiter | undefined;
  #failed: Error | undefined;
  #stopping = false;
  #step = 0;

  constructor(count: number, signal: AbortSignal | undefined) {
    this.#count = count;
    this.#signal = signal;
    this.#failure = new Promise((_, reject) => {
      this.#reject = reject;
    });
    // Listened to when something waits; a failure in between shows at the next step.
    this.#failure.catch(() => undefined);
    if (signal?.aborted === true) this.#aborted();
    signal?.addEventListener('abort', this.#aborted, { once: true });
  }

  readonly #aborted = (): void => {
    const reason: unknown = this.#signal?.reason;
    this.fail(reason instanceof Error ? reason : new Error('stopped', { cause: reason }));
  };

  /** Starts every engine, waits until all have loaded, and returns the size of the vocabulary. */
  async start(
    start: StartCheckStage,
    files: readonly StageFile[],
    context: ContextSettings,
  ): Promise<number> {
    for (const [index, file] of files.entries()) {
      if (this.#failed !== undefined) throw this.#failed;
      const { embedding } = file;
      const load: LoadStage = {
        type: 'load_stage',
        slice: file.slice,
        ...(embedding === undefined ? {} : { embedding }),
        first: file.first,
        last: file.last,
        layers: file.layers,
        logits: true,
        context,
      };
      const stage = await start(
        load,
        embedding === undefined ? [file.slice] : [file.slice, embedding],
        {
          onFrame: (payload) => this.#passOn(index, payload),
          onStepError: (error) => this.fail(asError(error)),
        },
      );
      this.#stages.push(stage);
      // Waited for below, together; until then a failure must not count as unheard.
      stage.ready.catch(() => undefined);
      void stage.exited.then((reason) => {
        if (!this.#stopping) this.fail(ended(index, reason));
      });
    }
    const loading = Promise.all(this.#stages.map((stage) => stage.ready));
    const ready = await this.#orFailure(loading, LOAD_TIMEOUT_MS, 'loading the model');
    return ready.at(-1)?.n_vocab ?? 0;
  }

  #passOn(index: number, payload: Uint8Array): void {
    const next = this.#stages[index + 1];
    if (index === this.#count - 1) this.#result(payload);
    else if (next !== undefined) this.#send(next, payload);
  }

  #send(stage: CheckStage, payload: Uint8Array): void {
    Promise.resolve(stage.sendFrame(payload)).catch((thrown: Error) => this.fail(thrown));
  }

  #result(payload: Uint8Array): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    try {
      const frame = decodeFrame(payload);
      if (frame.kind !== 'result') throw new Error('the last stage answered with a step');
      waiter?.resolve(frame);
    } catch (thrown) {
      this.fail(thrown as Error);
      waiter?.reject(thrown as Error);
    }
  }

  async step(input: StepInput): Promise<ResultFrame> {
    if (this.#failed !== undefined) throw this.#failed;
    const [first] = this.#stages;
    if (first === undefined || this.#waiter !== undefined) throw new Error('a step is under way');
    const result = new Promise<ResultFrame>((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
    const frame = encodeFrame({
      kind: 'step',
      epoch: 1,
      step: ++this.#step,
      ...input,
      timings: [],
      rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array(0) },
    });
    this.#send(first, frame);
    return this.#orFailure(result, STEP_TIMEOUT_MS, 'a step');
  }

  async #orFailure<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(
          new MinikeepError('check.timeout', `${what} took longer than ${timeoutMs / 1000} s`, {
            next: 'See whether the machine is busy or out of memory, then try again.',
          }),
        );
      }, timeoutMs);
    });
    try {
      return await Promise.race([work, this.#failure, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  fail(error: Error): void {
    this.#failed ??= error;
    this.#reject(this.#failed);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#signal?.removeEventListener('abort', this.#aborted);
    await Promise.all(this.#stages.map((stage) => stage.stop()));
  }
}

const asError = (fault: EngineFault): MinikeepError =>
  new MinikeepError(fault.code, fault.message, { next: fault.next });

function ended(index: number, reason: string): MinikeepError {
  return new MinikeepError(
    'check.engine_ended',
    `the engine of stage ${index + 1} ended: ${reason}`,
    {
      next: 'Run with --verbose to see llama.cpp’s own messages.',
    },
  );
}
