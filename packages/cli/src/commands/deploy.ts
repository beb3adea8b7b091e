/** Brings a model up on a session's cluster, with progress, and says what it did. */
import { ExactMode } from '@minikeep/protocol/v1';
import { untilUp, type CameUp } from '../deploy-progress.ts';
import type { LocalCluster } from '../local-cluster.ts';
import { localThreads } from '../local-threads.ts';
import type { Progress } from '../progress.ts';

export interface DeployOptions {
  readonly modelPath: string;
  readonly cuts?: readonly number[];
  readonly contextTokens?: number;
  readonly threads?: number;
  readonly mode: 'exact' | 'fast';
}

export interface Deployed extends CameUp {
  readonly name: string;
}

const NAME = 'run';

/** Throws the coordinator's error, or the signal's reason. */
export async function deploy(
  session: LocalCluster,
  options: DeployOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<Deployed> {
  const request = {
    name: NAME,
    modelPath: options.modelPath,
    cuts: [...(options.cuts ?? [])],
    context: {
      nCtx: options.contextTokens ?? 0,
      threads: options.threads ?? localThreads(),
      mode: options.mode === 'fast' ? ExactMode.EXACT_MODE_FAST : ExactMode.EXACT_MODE_EXACT,
      gpu: process.platform === 'darwin',
    },
  };
  const up = await untilUp(session.operator.deploy(request, { signal }), progress);
  return { name: NAME, ...up };
}
