/**
 * Stages in the caller's own process, without sandbox and pipes: for our own scripts and tests with files that they made
 * themselves (thousands of cuts of a tiny model, the bench's base). A program that is shipped may not import this: an
 * engine that reads somebody's file runs in a process of its own.
 */
import { MinikeepError, ROWS, type ResultFrame, type StepFrame } from '@minikeep/protocol';
import type { StageFile, StepInput } from './check/pipeline.ts';
import type { ContextSettings, EngineMemory } from './messages.ts';
import { openBinding, type Binding } from './native/binding.ts';
import { chooseLibraries } from './native/libraries.ts';
import { bufferBytes } from './native/log.ts';
import { NEXT } from './next-steps.ts';
import { contextParams } from './stage/model.ts';
import { Stage } from './stage/stage.ts';

const EPOCH = 1;
let opened: Binding | undefined;

export class StagesInProcess {
  readonly #stages: readonly Stage[];
  #step = 0;

  private constructor(stages: readonly Stage[]) {
    this.#stages = stages;
  }

  /**
   * `libraries`: paths of llama.cpp's; they are loaded once in a process. `logits`: the last stage gives every row's, not
   * only those that are sampled. Throws `engine.*`, `gguf.*`.
   */
  static async start(
    files: readonly StageFile[],
    context: ContextSettings,
    libraries: readonly string[],
    { logits = true }: { readonly logits?: boolean } = {},
  ): Promise<StagesInProcess> {
    opened ??= openBinding(chooseLibraries([...libraries]));
    const stages: Stage[] = [];
    try {
      for (const file of files) {
        const load = { type: 'load_stage' as const, ...file, logits, context };
        const stage = await Stage.open(opened, load, () => {});
        stages.push(stage);
        stage.warmUp();
      }
    } catch (thrown) {
      for (const stage of stages) stage.free();
      throw thrown;
    }
    return new StagesInProcess(stages);
  }

  /** What each stage's engine allocated, in the stages' order. */
  get memory(): readonly EngineMemory[] {
    return this.#stages.map(({ info }) => info.memory);
  }

  get vocabSize(): number {
    return this.#stages.at(-1)?.info.n_vocab ?? 0;
  }

  /** One step through all stages. Throws `engine.*`. */
  step(input: StepInput): ResultFrame {
    let frame: StepFrame = {
      kind: 'step',
      epoch: EPOCH,
      step: ++this.#step,
      ...input,
      timings: [],
      rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() },
    };
    for (const stage of this.#stages) {
      const next = stage.step(frame);
      if (next.kind === 'result') return next;
      frame = next;
    }
    throw new Error('the last stage gave no result');
  }

  stop(): void {
    for (const stage of this.#stages) stage.free();
  }
}

/** `llama_kv_cache: size = 512.00 MiB (…)`: said whether or not it was allocated. */
const CACHE_LINE = /kv_cache: size = *([\d.]+) MiB/;
/** Read the file, never map it: the only mode in which `no_alloc` is possible. */
const LOAD_MODE_READ = 0;

/**
 * What llama.cpp would allocate for cache and graphs of a file, without allocating it or its weights: the file may be a
 * header without data, of any size. `outputs`: rows of one step that may be outputs. Throws `engine.load_failed`.
 */
export function reservedInProcess(
  file: string,
  context: ContextSettings,
  outputs: number,
  libraries: readonly string[],
): Pick<EngineMemory, 'kv_bytes' | 'compute_bytes'> {
  opened ??= openBinding(chooseLibraries([...libraries]));
  const binding = opened;
  binding.log.drain();
  const model = binding.loadModel(file, {
    ...binding.modelDefaults(),
    no_alloc: true,
    load_mode: LOAD_MODE_READ,
    n_gpu_layers: 0,
    use_extra_bufts: context.mode === 'fast',
  });
  if (!model)
    throw new MinikeepError('engine.load_failed', binding.log.problem(), { next: NEXT.checkFile });
  try {
    const params = contextParams(binding, context, { watch: undefined, outputs });
    const made = binding.newContext(model, params);
    if (!made)
      throw new MinikeepError('engine.context_failed', binding.log.problem(), {
        next: NEXT.checkFile,
      });
    binding.freeContext(made);
    const lines = binding.log.drain();
    const kv = lines.reduce((sum, { text }) => sum + Number(CACHE_LINE.exec(text)?.[1] ?? 0), 0);
    return { kv_bytes: kv * 1024 ** 2, compute_bytes: bufferBytes(lines).compute_bytes };
  } finally {
    binding.freeModel(model);
  }
}
