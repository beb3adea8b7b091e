/** One model of the suite: its whole logits computed once, and any number of cuts compared with them bit by bit. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SandboxPlatform } from '@minikeep/containment';
import { engineLibraries, ModelCheck, type CheckOptions, type CheckResult } from '@minikeep/engine';
import { StagesInProcess } from '@minikeep/engine/in-process';
import { openModel, type Model } from '@minikeep/gguf';
import { REPOSITORY } from '../needs.ts';
import { CONFORMANCE_CONTEXT, conformanceScript } from './script.ts';

export interface ConformanceOptions extends Pick<CheckOptions, 'mode' | 'onSlice' | 'signal'> {
  readonly platform: SandboxPlatform;
}

/** `own`: in engines of their own, as in a cluster. `here`: in this process, many times as fast. */
export type Compare = (cuts: readonly number[], where?: 'own' | 'here') => Promise<CheckResult>;

/** Opens the model, computes the whole, hands a comparison to `work`, and leaves nothing behind. */
export async function withConformance<T>(
  file: string,
  options: ConformanceOptions,
  work: (model: Model, compare: Compare) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-conformance-'));
  try {
    const model = await openModel(file);
    const programs = path.join(REPOSITORY, 'dist');
    const check = await ModelCheck.start({
      ...options,
      model,
      folder,
      programs,
      script: conformanceScript,
      context: CONFORMANCE_CONTEXT,
    });
    try {
      const libraries = engineLibraries(programs);
      return await work(model, (cuts, where = 'own') =>
        where === 'own'
          ? check.compare(cuts)
          : check.compare(cuts, (files, context) =>
              StagesInProcess.start(files, context, libraries),
            ),
      );
    } finally {
      await check.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Identical, and about something: logits of 0 everywhere would be identical, too. */
export const holds = (result: CheckResult): boolean =>
  result.identical && result.max_logit > 0.5 && result.tokens_compared > 0;
