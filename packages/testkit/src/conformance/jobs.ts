/** The full suite as a list of jobs: which random model, in which types, at which cuts. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { SandboxPlatform } from '@minikeep/containment';
import { allowedCuts, openModel, SLICE_VERSION } from '@minikeep/gguf';
import { REPOSITORY } from '../needs.ts';
import { GENERATOR, NAMED_MODELS, randomModelFile, type NamedModel } from '../models/catalog.ts';
import { TINY, WIDE } from '../models/recipe.ts';
import type { Weights } from '../models/random-model.ts';
import { holds, withConformance } from './conformance.ts';
import { allDivisions } from './divisions.ts';

export const SUITE_WEIGHTS = ['F32', 'F16', 'Q8_0', 'Q4_K', 'mixed'] as const satisfies Weights[];
/** These need rows of 256. */
const WIDE_WEIGHTS: readonly Weights[] = ['Q4_K', 'mixed'];

export interface Job {
  readonly model: NamedModel;
  readonly layers: number;
  readonly weights: (typeof SUITE_WEIGHTS)[number];
}

export interface JobResult {
  readonly name: string;
  readonly architecture: string;
  readonly layers: number;
  readonly weights: string;
  /** What the result depends on; another fingerprint makes it stale. */
  readonly fingerprint: string;
  readonly singles: 'all' | 'few';
  readonly cuts: number;
  readonly cuts_refused: number;
  readonly rows_compared: number;
  readonly max_logit_difference: number;
  readonly identical: boolean;
  /** Cuts that differed. */
  readonly failed: readonly string[];
}

export const jobKey = (job: Job): string => `${job.model.name}/${job.layers}/${job.weights}`;

/** Every model at every published count, in every type. */
export function allJobs(): Job[] {
  return NAMED_MODELS.flatMap((model) =>
    model.layers.flatMap((layers) => SUITE_WEIGHTS.map((weights) => ({ model, layers, weights }))),
  );
}

/** llama.cpp's library, our slice format and generator: a result holds for these. */
export function fingerprint(): string {
  const folder = path.join(REPOSITORY, 'dist', 'lib');
  const hash = createHash('sha256');
  for (const file of readdirSync(folder).toSorted()) {
    hash.update(file);
    hash.update(readFileSync(path.join(folder, file)));
  }
  hash.update(`${SLICE_VERSION} ${GENERATOR}`);
  return hash.digest('hex').slice(0, 16);
}

export interface RunJob {
  readonly platform: SandboxPlatform;
  readonly fingerprint: string;
  /** 'all': each allowed single cut; 'few': first, middle and last. Divisions into 3, 8 and with one layer always. */
  readonly singles: 'all' | 'few';
  readonly folder?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export async function runJob(job: Job, options: RunJob): Promise<JobResult> {
  const { model, layers, weights } = job;
  const file = await randomModelFile(model.name, {
    layers,
    weights,
    dimensions: WIDE_WEIGHTS.includes(weights) ? WIDE : TINY,
    // A vocabulary of 128256 texts is beside the point here.
    vocabulary: model.vocabulary === undefined ? 'synthetic' : 'none',
    ...(options.folder === undefined ? {} : { folder: options.folder }),
  });
  const opened = await openModel(file);
  const divisions = allDivisions(opened, options.singles);
  // In engines of their own: the first, middle and last cut, and all divisions into more than two. The rest of the
  // single cuts go through the same code in this process, where starting a stage costs a tenth.
  const own = new Set(allDivisions(opened, 'few').map((cuts) => cuts.join()));
  const failed: string[] = [];
  let rows = 0;
  let max = 0;
  await withConformance(file, options, async (_model, compare) => {
    for (const [index, cuts] of divisions.entries()) {
      options.signal?.throwIfAborted();
      const result = await compare(cuts, own.has(cuts.join()) ? 'own' : 'here');
      rows += result.tokens_compared;
      max = Math.max(max, result.max_logit_difference);
      if (!holds(result)) failed.push(cuts.join(','));
      options.onProgress?.(index + 1, divisions.length);
    }
  });
  return {
    name: model.name,
    architecture: model.architecture,
    layers,
    weights,
    fingerprint: options.fingerprint,
    singles: options.singles,
    cuts: divisions.length,
    cuts_refused: layers - 1 - allowedCuts(opened).length,
    rows_compared: rows,
    max_logit_difference: max,
    identical: failed.length === 0,
    failed,
  };
}
