/** Placements: made from a plan, turned into one again, and found anew for a node that is to be free. */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { ModelLibrary } from '@minikeep/models';
import { planDeployment, type DeploymentPlan, type DeploymentShape } from '../deployment-plan.ts';
import type { Deployment } from '../deployment.ts';
import type { Models } from '../models.ts';
import type { NodeLink } from '../node-link.ts';
import type { Placement, WantedDeployment } from './types.ts';

export interface PlanningOptions {
  readonly library: ModelLibrary;
  /** Imported models; undefined where there are only files. */
  readonly models: Models | undefined;
  nodesNamed(names: readonly string[]): readonly NodeLink[];
  /** Whether a plan can be brought about, beyond memory: throws why not. */
  check?(plan: DeploymentPlan): Promise<unknown>;
}

const noProgress = (): void => {};

export function placementOf(plan: DeploymentPlan): Placement {
  return {
    modelPath: plan.modelPath,
    modelSha256: plan.modelSha256,
    architecture: plan.architecture,
    context: plan.context,
    stages: plan.stages.map(({ node, layers, sliceBytes }) => ({
      node: node.name,
      layers,
      sliceBytes,
      sliceSha256: '',
      embeddingSha256: '',
    })),
    text: plan.text !== undefined,
    textSha256: '',
  };
}

export function shapeOf(placement: Placement, options: PlanningOptions): DeploymentShape {
  const nodes = options.nodesNamed(placement.stages.map(({ node }) => node));
  const stages = placement.stages.flatMap(({ layers, sliceBytes }, i) => {
    const node = nodes[i];
    return node === undefined ? [] : [{ node, layers, sliceBytes }];
  });
  const { modelPath, modelSha256, architecture, context } = placement;
  return { modelPath, modelSha256, architecture, context, stages };
}

/** What has to be cut and sent for a placement that was made before. Throws `deploy.model_changed`, `gguf.*`, `model.*`. */
export async function planPlaced(
  placement: Placement,
  options: PlanningOptions,
  signal: AbortSignal,
): Promise<DeploymentPlan> {
  const plan = await planDeployment(
    { ...wishOf(placement, options), cuts: cutsOf(placement), placed: true },
    options.nodesNamed(placement.stages.map(({ node }) => node)),
    options.library,
    noProgress,
    signal,
  );
  if (plan.modelSha256 === placement.modelSha256) return plan;
  throw new MinikeepError(
    'deploy.model_changed',
    `${placement.modelPath} is no longer the model that was deployed`,
    { next: 'Put the file back, or take the deployment down and up again with the new one.' },
  );
}

/**
 * Where the deployments of a node could go instead; those that fit nowhere are missing. `running` says what their
 * engines hold now, which they will have given back by then. Changes nothing.
 */
export async function planMoves(
  leaving: readonly WantedDeployment[],
  usable: readonly NodeLink[],
  running: (name: string) => Deployment | undefined,
  options: PlanningOptions,
  signal: AbortSignal,
): Promise<{ readonly moves: Map<string, Placement>; readonly why: MinikeepError | undefined }> {
  const moves = new Map<string, Placement>();
  const freed = new Map<string, number>();
  for (const { name } of leaving)
    for (const [node, bytes] of memoryOf(running(name)))
      freed.set(node, (freed.get(node) ?? 0) + bytes);
  let why: MinikeepError | undefined;
  for (const { name, placement } of leaving) {
    const found = await planMove(placement, usable, freed, options, signal);
    if (found instanceof MinikeepError) {
      why ??= found;
      continue;
    }
    moves.set(name, found);
    // What it will hold there is not free for the next one.
    const total = [...memoryOf(running(name)).values()].reduce((sum, bytes) => sum + bytes, 0);
    const layers = found.stages.at(-1)?.layers[1] ?? 1;
    for (const { node, layers: own } of found.stages)
      freed.set(node, (freed.get(node) ?? 0) - (total * (own[1] - own[0])) / layers);
  }
  return { moves, why };
}

/** With as many nodes as before if they have room, else with all. */
async function planMove(
  placement: Placement,
  usable: readonly NodeLink[],
  freed: ReadonlyMap<string, number>,
  options: PlanningOptions,
  signal: AbortSignal,
): Promise<Placement | MinikeepError> {
  const used = placement.stages.flatMap(({ node }) => usable.filter((link) => link.name === node));
  const order = [...used, ...usable.filter((link) => !used.includes(link))];
  const counts = new Set([Math.min(placement.stages.length, order.length), order.length]);
  let why: MinikeepError | undefined;
  for (const count of counts) {
    if (count === 0) continue;
    try {
      const wish = { ...wishOf(placement, options), cuts: [], freed };
      const nodes = order.slice(0, count);
      const plan = await planDeployment(wish, nodes, options.library, noProgress, signal);
      await options.check?.(plan);
      return placementOf(plan);
    } catch (thrown) {
      signal.throwIfAborted();
      why = toMinikeepError(thrown);
    }
  }
  return (
    why ??
    new MinikeepError('plan.no_nodes', 'there is no other node that takes deployments', {
      next: 'Add a node, or put a drained one to work again: minikeep node resume NODE',
    })
  );
}

function wishOf(placement: Placement, { models }: PlanningOptions) {
  const { modelPath: path, modelSha256: sha256, context, text } = placement;
  return { model: models === undefined ? path : { sha256, path }, context, noText: !text };
}

const cutsOf = (placement: Placement): number[] =>
  placement.stages.slice(1).map(({ layers }) => layers[0]);

/** What its engines hold, by node. */
function memoryOf(deployment: Deployment | undefined): Map<string, number> {
  const held = new Map<string, number>();
  for (const { node, memory } of deployment?.stageStatus ?? [])
    if (memory !== undefined)
      held.set(node, memory.weightsBytes + memory.kvBytes + memory.computeBytes);
  return held;
}
