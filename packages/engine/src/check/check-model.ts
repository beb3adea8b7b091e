/**
 * `model check`: proves on this machine that a model cut into stages computes, bit by bit, what the whole does.
 * The whole runs first and its logits are kept; then the stages get the same tokens in the same chunks.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { checkCuts } from '@minikeep/gguf';
import { FRAME_LOGITS_MAX, MinikeepError, type ResultFrame } from '@minikeep/protocol';
import type { ContextSettings } from '../messages.ts';
import { differenceOf, LogitsFile, rowsOf } from './logits.ts';
import { Pipeline, type PipelineOptions, type StageFile, type StepInput } from './pipeline.ts';
import { singleSequence } from './script.ts';
import { stageFiles, wholeFile, type StageFilesOptions } from './stage-files.ts';

export interface CheckOptions extends Omit<PipelineOptions, 'context'>, StageFilesOptions {
  /** A folder for slices and logits; what is made in it is removed again. */
  readonly folder: string;
  readonly promptTokens?: number;
  readonly tokens?: number;
  readonly threads?: number;
  readonly mode?: ContextSettings['mode'];
  readonly gpu?: boolean;
  readonly onProgress?: (what: string) => void;
  /** Other steps than a prompt and single tokens, and the context that they need. */
  readonly script?: (vocabSize: number) => readonly StepInput[];
  readonly context?: Partial<ContextSettings>;
}

export interface CheckResult {
  readonly identical: boolean;
  readonly max_logit_difference: number;
  /** The largest logit, absolute: shows that something was computed. */
  readonly max_logit: number;
  /** Rows whose logits were compared, each over the whole vocabulary. */
  readonly tokens_compared: number;
  readonly cuts: readonly number[];
}

/** Rows of one step: what a frame can carry back as logits. */
const CHUNK_MAX = 64;
const LOGITS_BYTES_A_STEP = 32 * 1024 * 1024;
const PROMPT_TOKENS = 64;
const TOKENS = 16;

/** As `ModelCheck`, for a single set of cuts. */
export async function checkModel(
  options: CheckOptions & { readonly cuts: readonly number[] },
): Promise<CheckResult> {
  checkCuts(options.model, options.cuts);
  const check = await ModelCheck.start(options);
  try {
    return await check.compare(options.cuts);
  } finally {
    await check.close();
  }
}

/** Stages in a row, however they run. */
export interface Stages {
  step(input: StepInput): ResultFrame | Promise<ResultFrame>;
  stop(): void | Promise<void>;
}

/** The whole model's logits, computed once, and any number of cuts compared with them. */
export class ModelCheck {
  readonly #options: CheckOptions;
  readonly #folder: string;
  readonly #context: ContextSettings;
  readonly #steps: readonly StepInput[];
  readonly #reference: LogitsFile;
  readonly #vocabSize: number;

  private constructor(
    options: CheckOptions,
    folder: string,
    run: {
      context: ContextSettings;
      steps: readonly StepInput[];
      reference: LogitsFile;
      vocabSize: number;
    },
  ) {
    this.#options = options;
    this.#folder = folder;
    this.#context = run.context;
    this.#steps = run.steps;
    this.#reference = run.reference;
    this.#vocabSize = run.vocabSize;
  }

  /** Computes the whole model's logits. Throws `check.*`, `engine.*`, `slice.*`. */
  static async start(options: CheckOptions): Promise<ModelCheck> {
    const folder = await mkdtemp(path.join(options.folder, 'check-'));
    try {
      const context = contextOf(options);
      options.onProgress?.('the whole model');
      const file = await wholeFile(options, folder);
      const pipeline = await Pipeline.start([file], { ...options, context });
      try {
        const { vocabSize } = pipeline;
        const steps = stepsOf(options, context, vocabSize);
        const reference = await LogitsFile.create(path.join(folder, 'logits'), vocabSize);
        try {
          for (const step of steps) {
            options.signal?.throwIfAborted();
            await reference.append(rowsOf(step, await pipeline.step(step), vocabSize));
          }
        } catch (thrown) {
          await reference.close();
          throw thrown;
        }
        return new ModelCheck(options, folder, { context, steps, reference, vocabSize });
      } finally {
        await pipeline.stop();
      }
    } catch (thrown) {
      await rm(folder, { recursive: true, force: true });
      throw thrown;
    }
  }

  /**
   * Cuts, loads, computes and compares, in engines of their own or in what `start` makes. Throws `slice.cut_refused`
   * before anything is written.
   */
  async compare(
    cuts: readonly number[],
    start: (files: readonly StageFile[], context: ContextSettings) => Promise<Stages> = (
      files,
      context,
    ) => Pipeline.start(files, { ...this.#options, context }),
  ): Promise<CheckResult> {
    checkCuts(this.#options.model, cuts);
    const folder = await mkdtemp(path.join(this.#folder, 'cut-'));
    try {
      this.#options.onProgress?.(`cut at ${cuts.join(', ')}`);
      const files = await stageFiles(this.#options, cuts, folder);
      const pipeline = await start(files, this.#context);
      try {
        return await this.#run(pipeline, cuts);
      } finally {
        await pipeline.stop();
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #run(pipeline: Stages, cuts: readonly number[]): Promise<CheckResult> {
    let identical = true;
    let max = 0;
    let magnitude = 0;
    let compared = 0;
    for (const step of this.#steps) {
      this.#options.signal?.throwIfAborted();
      for (const row of rowsOf(step, await pipeline.step(step), this.#vocabSize)) {
        const difference = differenceOf(await this.#reference.read(compared), row);
        identical &&= difference.identical;
        max = Math.max(max, difference.max);
        magnitude = Math.max(magnitude, difference.magnitude);
        compared += 1;
      }
    }
    return {
      identical,
      max_logit_difference: max,
      max_logit: magnitude,
      tokens_compared: compared,
      cuts,
    };
  }

  async close(): Promise<void> {
    await this.#reference.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function contextOf(options: CheckOptions): ContextSettings {
  const { promptTokens = PROMPT_TOKENS, tokens = TOKENS } = options;
  if (!(promptTokens >= 2 && tokens >= 0))
    throw new MinikeepError('check.tokens', 'a check needs a prompt of at least 2 tokens', {
      next: 'Choose --prompt-tokens 2 or more.',
    });
  return {
    n_ctx: Math.ceil((promptTokens + tokens + 1) / 64) * 64,
    n_batch: CHUNK_MAX,
    n_seq_max: 1,
    mode: options.mode ?? 'exact',
    threads: options.threads ?? 1,
    gpu: options.gpu ?? false,
    ...options.context,
  };
}

function stepsOf(
  options: CheckOptions,
  context: ContextSettings,
  vocabSize: number,
): readonly StepInput[] {
  if (vocabSize < 1 || vocabSize > FRAME_LOGITS_MAX)
    throw new MinikeepError('check.vocabulary', `the model has ${vocabSize} tokens`, {
      next: 'Use a complete model file.',
    });
  if (options.script !== undefined) return options.script(vocabSize);
  const fits = Math.floor(LOGITS_BYTES_A_STEP / (vocabSize * 4));
  return singleSequence(vocabSize, {
    promptTokens: options.promptTokens ?? PROMPT_TOKENS,
    tokens: options.tokens ?? TOKENS,
    chunk: Math.max(3, Math.min(context.n_batch, fits)),
  });
}
