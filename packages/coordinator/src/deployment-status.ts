/** How a deployment that runs looks from outside. */
import { toErrorDetail } from '@minikeep/protocol/rpc';
import type { DeploymentStatus } from '@minikeep/protocol/v1';
import type { Deployment } from './deployment.ts';

export function deploymentStatus(deployment: Deployment): DeploymentStatus {
  const { shape, pipeline, error } = deployment;
  return {
    name: deployment.name,
    state: deployment.state,
    epoch: deployment.epoch,
    modelPath: shape.modelPath,
    modelSha256: shape.modelSha256,
    architecture: shape.architecture,
    layers: shape.stages.at(-1)?.layers[1] ?? 0,
    context: shape.context,
    sealed: deployment.sealed,
    stages: deployment.stageStatus,
    sequencesActive: pipeline?.activeSequences ?? 0,
    requestsQueued: pipeline?.queuedRequests ?? 0,
    error: error === undefined ? undefined : toErrorDetail(error),
    kept: false,
    doing: '',
  };
}
