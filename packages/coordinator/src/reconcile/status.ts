/** How a deployment that is kept looks from outside, also while nothing of it runs. */
import { toErrorDetail } from '@minikeep/protocol/rpc';
import type { MinikeepError } from '@minikeep/protocol';
import { DeploymentState, SealLevel, type DeploymentStatus } from '@minikeep/protocol/v1';
import type { DeploymentView, Phase } from './types.ts';

const STATES: Readonly<Record<Phase['type'], DeploymentState>> = {
  idle: DeploymentState.DEPLOYMENT_STATE_WAITING,
  starting: DeploymentState.DEPLOYMENT_STATE_STARTING,
  attaching: DeploymentState.DEPLOYMENT_STATE_STARTING,
  ready: DeploymentState.DEPLOYMENT_STATE_READY,
  draining: DeploymentState.DEPLOYMENT_STATE_DRAINING,
  ending: DeploymentState.DEPLOYMENT_STATE_STOPPING,
};

/** `running`: what the deployment says of itself. `why`: why requests fail now. */
export function keptStatus(
  view: DeploymentView,
  running: DeploymentStatus | undefined,
  why: MinikeepError | undefined,
): DeploymentStatus {
  const { name, placement, epoch } = view.row;
  const state = STATES[view.phase.type];
  const waits = view.phase.type === 'idle' ? (why ?? view.error) : undefined;
  const error = waits === undefined ? undefined : toErrorDetail(waits);
  const doing = doingOf(view);
  if (running !== undefined) return { ...running, state, error, kept: true, doing };
  return {
    name,
    state,
    epoch,
    modelPath: placement.modelPath,
    modelSha256: placement.modelSha256,
    architecture: placement.architecture,
    layers: placement.stages.at(-1)?.layers[1] ?? 0,
    context: placement.context,
    sealed: SealLevel.SEAL_LEVEL_NONE,
    stages: placement.stages.map(({ node, layers, sliceBytes }) => ({
      node,
      layers: { start: layers[0], end: layers[1] },
      sliceBytes,
      memory: undefined,
      enginePid: 0,
      sandboxed: false,
      loadSeconds: 0,
    })),
    sequencesActive: 0,
    requestsQueued: 0,
    error,
    kept: true,
    doing,
  };
}

/** What goes on, for people; empty when nothing does. */
function doingOf({ phase, row, hold }: DeploymentView): string {
  const { stages } = row.placement;
  const nodes = stages.map(({ node }) => node).join(', ');
  switch (phase.type) {
    case 'starting':
      return `slices are brought to ${nodes} and loaded; what a node holds is not sent again`;
    case 'attaching': {
      const gone = phase.loading.flatMap((i) => stages[i] ?? []);
      if (gone.length === 0) return 'its engines run: they are connected again, nothing is loaded';
      const which = gone.map(({ node, layers: [a, b] }) => `layers ${a} to ${b - 1} on ${node}`);
      return `only ${which.join(' and ')} ${gone.length === 1 ? 'is' : 'are'} loaded again; the other stages keep their engines`;
    }
    case 'draining':
      return `running answers end, new requests wait; then it moves to ${nodes}`;
    case 'ending':
      return row.wanted === 'up' ? `it moves to ${nodes}; new requests wait` : 'its engines end';
    case 'idle':
      return hold ? `it is about to start on ${nodes}; new requests wait` : '';
    case 'ready':
      return '';
  }
}
