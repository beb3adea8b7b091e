/** Brings a model up on a session's cluster, with progress, and says what it did. */
import { MinikeepError } from '@minikeep/protocol';
import {
  DeployPhase,
  ExactMode,
  type DeploymentStatus,
  type DeployPlan,
} from '@minikeep/protocol/v1';
import { formatBytes } from '@minikeep/planner';
import type { Progress } from '../progress.ts';
import type { LocalCluster } from '../local-cluster.ts';
import { localThreads } from '../local-threads.ts';

export interface DeployOptions {
  readonly modelPath: string;
  readonly cuts?: readonly number[];
  readonly contextTokens?: number;
  readonly threads?: number;
  readonly mode: 'exact' | 'fast';
}

export interface Deployed {
  readonly name: string;
  readonly status: DeploymentStatus;
  readonly plan: DeployPlan | undefined;
  readonly seconds: number;
}

const PHASES: ReadonlyMap<DeployPhase, string> = new Map([
  [DeployPhase.DEPLOY_PHASE_CHECKING, 'checking the model'],
  [DeployPhase.DEPLOY_PHASE_CANARY, 'trying the sandbox'],
  [DeployPhase.DEPLOY_PHASE_SENDING, 'sending slices'],
  [DeployPhase.DEPLOY_PHASE_LOADING, 'loading'],
  [DeployPhase.DEPLOY_PHASE_CONNECTING, 'connecting the stages'],
]);

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
  let plan: DeployPlan | undefined;
  try {
    for await (const { event } of session.operator.deploy(request, { signal })) {
      if (event?.$case === 'plan') plan = event.value;
      if (event?.$case === 'progress') {
        const { phase, fraction, totalBytes } = event.value;
        const size = totalBytes > 0 ? ` ${formatBytes(totalBytes)}` : '';
        progress.show(`${PHASES.get(phase) ?? 'starting'}${size}`, fraction);
      }
      if (event?.$case === 'ready' && event.value.deployment !== undefined)
        return {
          name: NAME,
          status: event.value.deployment,
          plan,
          seconds: event.value.totalSeconds,
        };
    }
  } finally {
    progress.clear();
  }
  throw new MinikeepError('deploy.ended', 'the coordinator ended before the model was up', {
    next: 'Run the command again with --verbose.',
  });
}
