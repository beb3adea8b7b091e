/** Stages in this process, one behind the other, and slices on disk: what most engine tests stand on. */
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { openModel, planSlices, sliceStream } from '@minikeep/gguf';
import {
  DEFAULT_SAMPLING,
  ROWS,
  type ResultFrame,
  type SamplingParams,
  type SequenceOp,
  type Span,
  type StepFrame,
} from '@minikeep/protocol';
import { engineLibraries } from '../src/client/start-engine.ts';
import type { ContextSettings, LoadStage } from '../src/messages.ts';
import { openBinding, type Binding } from '../src/native/binding.ts';
import { chooseLibraries } from '../src/native/libraries.ts';
import { Stage } from '../src/stage/stage.ts';

let opened: Binding | undefined;
/** llama.cpp, opened once a test file. */
export const binding = (): Binding => (opened ??= openBinding(chooseLibraries(engineLibraries())));

export const EXACT: ContextSettings = {
  n_ctx: 512,
  n_batch: 512,
  n_seq_max: 8,
  mode: 'exact',
  // Threads that wait for each other at every node crawl on cores shared with other tests.
  threads: 1,
  gpu: false,
};

export interface Slices {
  readonly stages: readonly LoadStage[];
  readonly text: string;
}

/** Cuts a model into files under `folder`; no cuts: the file itself as one stage. */
export async function cutModel(
  file: string,
  cuts: readonly number[],
  folder: string,
  context: ContextSettings,
): Promise<Slices> {
  const model = await openModel(file);
  await mkdir(folder, { recursive: true });
  const plans = planSlices(model, cuts);
  const files = new Map<string, string>();
  for (const plan of plans) {
    const target = path.join(folder, `${path.basename(file, '.gguf')}-${plan.key}.gguf`);
    files.set(plan.key, target);
    if (existsSync(target)) continue;
    await pipeline(Readable.from(sliceStream(model, plan)), createWriteStream(`${target}.part`));
    await rename(`${target}.part`, target);
  }
  const of = (kind: string): string =>
    files.get(plans.find((plan) => plan.kind === kind)?.key ?? '') ?? '';
  const stages = plans
    .filter((plan) => plan.kind === 'stage')
    .map((plan): LoadStage => ({
      type: 'load_stage',
      slice: cuts.length === 0 ? file : (files.get(plan.key) ?? ''),
      ...(plan.first && !plan.last ? { embedding: of('embedding') } : {}),
      first: plan.first,
      last: plan.last,
      layers: plan.layers,
      logits: true,
      context,
    }));
  return { stages, text: of('text') };
}

export interface Part {
  readonly seq: number;
  readonly tokens: readonly number[];
  readonly position: number;
  readonly sample?: boolean;
  readonly logits?: boolean;
  readonly replay?: boolean;
}

export const open = (seq: number, sampling: Partial<SamplingParams> = {}): SequenceOp => ({
  op: 'open',
  seq,
  sampling: new TextEncoder().encode(JSON.stringify({ ...DEFAULT_SAMPLING, ...sampling })),
});

export function stepFrame(parts: readonly Part[], ops: readonly SequenceOp[] = []): StepFrame {
  const spans = parts.map(
    ({ seq, tokens, position, sample = false, logits = false, replay = false }): Span => ({
      seq,
      position,
      count: tokens.length,
      sample,
      logits,
      replay,
    }),
  );
  return {
    kind: 'step',
    epoch: 1,
    step: 1,
    ops,
    spans,
    tokens: Int32Array.from(parts.flatMap(({ tokens }) => [...tokens])),
    timings: [],
    rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() },
  };
}

/** All stages of a model in this process. */
export class Line {
  readonly stages: readonly Stage[];

  constructor(stages: readonly Stage[]) {
    this.stages = stages;
  }

  static async load(slices: Slices): Promise<Line> {
    const stages: Stage[] = [];
    for (const load of slices.stages) stages.push(await Stage.open(binding(), load, () => {}));
    return new Line(stages);
  }

  step(parts: readonly Part[], ops: readonly SequenceOp[] = []): ResultFrame {
    let frame = stepFrame(parts, ops);
    for (const stage of this.stages) {
      const answer = stage.step(frame);
      if (answer.kind === 'result') return answer;
      frame = answer;
    }
    throw new Error('the last stage gave no result');
  }

  free(): void {
    for (const stage of this.stages) stage.free();
  }
}

/** Token ids of our own choice, different for each seed. */
export const someTokens = (count: number, vocabulary: number, seed = 1): number[] =>
  Array.from(
    { length: count },
    (_, i) => (((i * 37 + seed * 101 + 7) * (seed + 3)) % (vocabulary - 4)) + 3,
  );

/** Whether two rows are the same bit by bit. */
export const sameBits = (a: Float32Array, b: Float32Array): boolean =>
  a.length === b.length &&
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(
    Buffer.from(b.buffer, b.byteOffset, b.byteLength),
  );

export const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Number.NaN))), 0);
