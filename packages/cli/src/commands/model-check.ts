/**
 * `minikeep model check`: proves on this machine that a split model computes, bit by bit, what the whole does.
 * Feeds token ids of its own choice, so that it needs no vocabulary.
 */
import { platformFor } from '@minikeep/agent';
import { ModelCheck, type CheckResult } from '@minikeep/engine';
import { allowedCuts, openModel, type Model } from '@minikeep/gguf';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { rmSync } from 'node:fs';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { LOCAL_NODES_DEFAULT } from '../defaults.ts';
import { planLocally } from '../local-plan.ts';
import { UNSAFE_WARNING } from '../local-session.ts';
import { localThreads } from '../local-threads.ts';
import { knownModels } from '../models.ts';
import { Progress } from '../progress.ts';
import { temporaryFolder } from '../temporary-folder.ts';

export interface ModelCheckFlags extends CommonFlags {
  readonly stages?: number;
  readonly cuts?: number[];
  readonly everyCut?: boolean;
  readonly tokens: number;
  readonly promptTokens: number;
  readonly threads?: number;
  readonly mode: 'exact' | 'fast';
  readonly unsafeNoSandbox?: boolean;
}

export async function modelCheck(
  { terminal, interrupts, distFolder }: CommandContext,
  name: string,
  flags: ModelCheckFlags,
): Promise<number> {
  const file = knownModels(distFolder).get(name) ?? name;
  const json = flags.json === true;
  const model = await openModel(file);
  const divisions = await divisionsOf(model, file, flags);
  const unsafe = flags.unsafeNoSandbox === true;
  if (unsafe && !json) terminal.note(UNSAFE_WARNING);
  const progress = new Progress(terminal, json);
  const folder = temporaryFolder('minikeep-check-');
  const remove = (): void =>
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
  const forget = interrupts.atOnce(remove);
  let what = '';
  let identical = true;
  try {
    const check = await ModelCheck.start({
      model,
      folder,
      programs: distFolder,
      platform: platformFor(unsafe),
      promptTokens: flags.promptTokens,
      tokens: flags.tokens,
      threads: flags.threads ?? localThreads(),
      mode: flags.mode,
      gpu: process.platform === 'darwin',
      signal: interrupts.signal,
      onProgress: (now) => progress.show((what = now)),
    });
    try {
      for (const [i, cuts] of divisions.entries()) {
        const result = await check.compare(cuts);
        progress.clear();
        if (json) await terminal.json(result);
        else await terminal.line(sentence(result, divisions.length));
        progress.show(what, (i + 1) / divisions.length);
        identical &&= result.identical;
      }
    } finally {
      await check.close();
    }
  } finally {
    progress.clear();
    remove();
    forget();
  }
  return identical ? EXIT.ok : EXIT.checkFailed;
}

/** The sets of cuts to compare: the asked-for one, every single one, or what a plan for that many stages says. */
async function divisionsOf(
  model: Model,
  file: string,
  flags: ModelCheckFlags,
): Promise<(readonly number[])[]> {
  const given = [flags.cuts, flags.stages, flags.everyCut].filter((flag) => flag !== undefined);
  if (given.length > 1)
    throw new MinikeepError('usage.stages', '--cuts, --stages and --every-cut exclude each other', {
      next: 'Give one of them.',
      exitCode: EXIT.usage,
    });
  if (flags.everyCut === true) return allowedCuts(model).map((cut) => [cut]);
  if (flags.cuts !== undefined) return [flags.cuts];
  const stages = flags.stages ?? LOCAL_NODES_DEFAULT;
  const { placement } = await planLocally(file, stages, { mode: flags.mode });
  return [placement.cuts];
}

function sentence(result: CheckResult, divisions: number): string {
  const where = result.cuts.length === 0 ? 'one stage' : `cut before ${result.cuts.join(', ')}`;
  const what = `${result.tokens_compared} rows of logits`;
  const short = divisions > 1;
  if (result.identical)
    return short
      ? `✓ ${where}: identical`
      : `identical: ${where}, ${what} are bit by bit those of the whole model`;
  return `${short ? '✗' : 'DIFFERENT:'} ${where}: logits differ by up to ${result.max_logit_difference} (${what})`;
}
