/** `minikeep status`: the cluster in a few lines. */
import { EXIT } from '@minikeep/protocol';
import {
  DeploymentState,
  SealStatusServiceDefinition,
  OutputGuardServiceDefinition,
  type DeploymentStatus,
} from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { quarantineText } from '../quarantine-text.ts';
import { outputPolicyName } from '../output-policy.ts';
import { safeLine } from '../safe-text.ts';
import { sealName } from '@minikeep/protocol/rpc';

const STATES: ReadonlyMap<DeploymentState, string> = new Map([
  [DeploymentState.DEPLOYMENT_STATE_STARTING, 'starting'],
  [DeploymentState.DEPLOYMENT_STATE_READY, 'ready'],
  [DeploymentState.DEPLOYMENT_STATE_FAILED, 'failed'],
  [DeploymentState.DEPLOYMENT_STATE_STOPPING, 'stopping'],
  [DeploymentState.DEPLOYMENT_STATE_WAITING, 'waiting'],
  [DeploymentState.DEPLOYMENT_STATE_DRAINING, 'draining'],
]);

export async function status({ terminal }: CommandContext, flags: HomeFlags): Promise<number> {
  return withOperator(flags, async ({ operator, service }) => {
    const found = await operator.status({});
    const { quarantined } = await service(SealStatusServiceDefinition).sealStatus({});
    const { policy } = await service(OutputGuardServiceDefinition).getOutputGuard({});
    const outputGuard = outputPolicyName(policy);
    const up = found.nodes.filter((node) => node.reachable);
    if (flags.json === true) {
      await terminal.json({
        cluster: found.clusterName,
        cluster_id: found.clusterId,
        version: found.minikeepVersion,
        sealed: sealName(found.sealed),
        violations: found.violations,
        output_guard: outputGuard,
        api: found.apiUrl === '' ? null : { url: found.apiUrl },
        nodes_up: up.length,
        nodes: found.nodes.length,
        deployments: found.deployments.map(deploymentDocument),
        quarantined: quarantined.map(({ deployment }) => deployment),
      });
      return EXIT.ok;
    }
    await terminal.line(
      `${found.clusterName}: ${up.length} of ${found.nodes.length} nodes up, sealed: ${sealName(found.sealed)}, violations: ${found.violations}, output guard: ${outputGuard}`,
    );
    for (const node of found.nodes)
      if (!node.reachable)
        await terminal.line(
          safeLine(`  ${node.node} is away: ${node.error?.message ?? 'not heard of yet'}`, 400),
        );
    for (const each of quarantined) await terminal.line(safeLine(`  ${quarantineText(each)}`, 400));
    if (found.deployments.length === 0 && quarantined.length === 0)
      await terminal.line('Nothing is up. See `minikeep model list`, then: minikeep up NAME');
    for (const deployment of found.deployments) {
      await terminal.line(
        safeLine(
          `  ${deployment.name}: ${STATES.get(deployment.state) ?? 'unknown'}, ${deployment.architecture}, ${deployment.layers} layers, epoch ${deployment.epoch}`,
          400,
        ),
      );
      for (const stage of deployment.stages)
        await terminal.line(
          `    ${stage.node}: layers ${stage.layers?.start ?? 0}–${(stage.layers?.end ?? 1) - 1}`,
        );
      if (deployment.doing !== '') await terminal.line(safeLine(`    ${deployment.doing}`, 400));
      if (deployment.error !== undefined)
        await terminal.line(safeLine(`    ${deployment.error.message}`, 400));
    }
    return EXIT.ok;
  });
}

export function deploymentDocument(deployment: DeploymentStatus) {
  return {
    name: deployment.name,
    state: STATES.get(deployment.state) ?? 'unknown',
    epoch: deployment.epoch,
    architecture: deployment.architecture,
    layers: deployment.layers,
    sha256: deployment.modelSha256,
    sealed: sealName(deployment.sealed),
    sequences_active: deployment.sequencesActive,
    requests_queued: deployment.requestsQueued,
    doing: deployment.doing === '' ? null : deployment.doing,
    stages: deployment.stages.map((stage) => ({
      node: stage.node,
      layers: [stage.layers?.start ?? 0, stage.layers?.end ?? 0],
      slice_bytes: stage.sliceBytes,
      engine_pid: stage.enginePid,
    })),
    error:
      deployment.error === undefined
        ? null
        : {
            code: deployment.error.code,
            message: deployment.error.message,
            next: deployment.error.next,
          },
  };
}
