/** One model of the suite: its whole logits computed once, and any number of cuts compared with them bit by bit. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SandboxPlatform } from '@minikeep/containment';
import { ModelCheck, type CheckOptions, type CheckResult } from '@minikeep/engine';
import { openModel, type Model } from '@minikeep/gguf';
import { REPOSITORY } from '../needs.ts';
import { CONFORMANCE_CONTEXT, conformanceScript } from './script.ts';

export interface ConformanceOptions extends Pick<CheckOptions, 'mode' | 'onSlice' | 'signal'> {
  readonly platform: SandboxPlatform;
}

/** Opens the model, computes the whole, hands a comparison to `work`, and leaves nothing behind. */
export async function withConformance<T>(
  file: string,
  options: ConformanceOptions,
  work: (model: Model, compare: (cuts: readonly number[]) => Promise<CheckResult>) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-conformance-'));
  try {
    const model = await openModel(file);
    const check = await ModelCheck.start({
      ...options,
      model,
      folder,
      programs: path.join(REPOSITORY, 'dist'),
      script: conformanceScript,
      context: CONFORMANCE_CONTEXT,
    });
    try {
      return await work(model, (cuts) => check.compare(cuts));
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
