/** Shows how a deployment comes up; the last word is its status. */
import { MinikeepError } from '@minikeep/protocol';
import {
  DeployPhase,
  type DeployPlan,
  type DeployProgress,
  type DeployResponse,
  type DeploymentStatus,
} from '@minikeep/protocol/v1';
import { formatBytes } from '@minikeep/planner';
import type { Progress } from './progress.ts';

const PHASES: ReadonlyMap<DeployPhase, string> = new Map([
  [DeployPhase.DEPLOY_PHASE_CHECKING, 'checking the model'],
  [DeployPhase.DEPLOY_PHASE_MEASURING, 'measuring the nodes'],
  [DeployPhase.DEPLOY_PHASE_CANARY, 'trying the sandbox'],
  [DeployPhase.DEPLOY_PHASE_SENDING, 'sending slices'],
  [DeployPhase.DEPLOY_PHASE_LOADING, 'loading'],
  [DeployPhase.DEPLOY_PHASE_CONNECTING, 'connecting the stages'],
]);

export interface CameUp {
  readonly status: DeploymentStatus;
  readonly plan: DeployPlan | undefined;
  readonly seconds: number;
}

export function showProgress(
  progress: Progress,
  { phase, fraction, totalBytes }: DeployProgress,
): void {
  const size = totalBytes > 0 ? ` ${formatBytes(totalBytes)}` : '';
  progress.show(`${PHASES.get(phase) ?? 'starting'}${size}`, fraction);
}

/** What comes before the work that it is about. */
export interface Told {
  plan?(plan: DeployPlan): void;
  /** How long so many bytes will be on their way to the nodes. */
  forecast?(seconds: number, bytes: number): void;
}

/** Throws the coordinator's error, or the signal's reason. */
export async function untilUp(
  responses: AsyncIterable<DeployResponse>,
  progress: Progress,
  told: Told = {},
): Promise<CameUp> {
  let plan: DeployPlan | undefined;
  try {
    for await (const { event } of responses) {
      if (event?.$case === 'plan') {
        plan = event.value;
        progress.clear();
        told.plan?.(plan);
      }
      if (event?.$case === 'progress') {
        const { predictedSeconds, totalBytes } = event.value;
        if (predictedSeconds > 0) {
          progress.clear();
          told.forecast?.(predictedSeconds, totalBytes);
        }
        showProgress(progress, event.value);
      }
      if (event?.$case === 'ready' && event.value.deployment !== undefined)
        return { status: event.value.deployment, plan, seconds: event.value.totalSeconds };
    }
  } finally {
    progress.clear();
  }
  throw new MinikeepError('deploy.ended', 'the coordinator ended before the model was up', {
    next: 'Run the command again with --verbose.',
  });
}
