/**
 * Stages in the caller's own process, without sandbox and pipes: for our own scripts and tests with files that they made
 * themselves (thousands of cuts of a tiny model, the bench's base). A program that is shipped may not import this: an
 * engine that reads somebody's file runs in a process of its own.
 */
import { ROWS, type ResultFrame, type StepFrame } from '@minikeep/protocol';
import type { StageFile, StepInput } from './check/pipeline.ts';
import type { ContextSettings } from './messages.ts';
import { openBinding, type Binding } from './native/binding.ts';
import { chooseLibraries } from './native/libraries.ts';
import { Stage } from './stage/stage.ts';

const EPOCH = 1;
let opened: Binding | undefined;

export class StagesInProcess {
  readonly #stages: readonly Stage[];
  #step = 0;

  private constructor(stages: readonly Stage[]) {
    this.#stages = stages;
  }

  /** `libraries`: paths of llama.cpp's; they are loaded once in a process. Throws `engine.*`, `gguf.*`. */
  static async start(
    files: readonly StageFile[],
    context: ContextSettings,
    libraries: readonly string[],
  ): Promise<StagesInProcess> {
    opened ??= openBinding(chooseLibraries([...libraries]));
    const stages: Stage[] = [];
    try {
      for (const file of files) {
        const load = { type: 'load_stage' as const, ...file, logits: true, context };
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
