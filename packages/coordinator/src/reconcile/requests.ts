/** The operator's requests about deployments that are kept, and nodes that are drained. */
import { EventQueue, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { DeployProgress, DeploymentStatus, DrainNodeResponse } from '@minikeep/protocol/v1';
import type { Cluster } from '../cluster.ts';
import type { DeploymentPlan } from '../deployment-plan.ts';
import { slicesOf, wholePlan } from '../deployment-steps.ts';
import type { NodeLink } from '../node-link.ts';
import { checkTransfers } from '../send-slices.ts';
import { noRoomElsewhere, noRoomWithout } from './faults.ts';
import { placementOf, planMoves } from './plans.ts';
import type { Placement } from './types.ts';

const DRAIN_TIMEOUT_SECONDS = 300;
const DRAIN_TIMEOUT_SECONDS_MAX = 24 * 3600;
/** Planning reads a model's header and asks the nodes; who is shut out by force does not wait for it for long. */
const PLAN_MS = 60_000;
const FORCED_PLAN_MS = 5_000;
const EVENTS_MAX = 10_000;

/** Keeps that the deployment is wanted, and resolves when it is up. Throws why the first attempt failed; it goes on. */
export async function bringUpKept(
  cluster: Cluster,
  name: string,
  model: string,
  plan: DeploymentPlan,
  onProgress: (progress: DeployProgress) => void,
  signal: AbortSignal,
): Promise<DeploymentStatus> {
  const { reconciler } = cluster;
  cluster.checkFree(name);
  const watch = reconciler.watch(name);
  const telling = tell(watch.progress, onProgress);
  try {
    await reconciler.up(name, model, placementOf(plan));
    return await untilReady(cluster, name, signal);
  } finally {
    watch.stop();
    await telling;
  }
}

async function tell(
  progress: EventQueue<DeployProgress>,
  onProgress: (progress: DeployProgress) => void,
): Promise<void> {
  for await (const event of progress) onProgress(event);
}

async function untilReady(
  cluster: Cluster,
  name: string,
  signal: AbortSignal,
): Promise<DeploymentStatus> {
  const { reconciler } = cluster;
  for (;;) {
    const view = reconciler.view(name);
    const ended = view === undefined || view.row.wanted === 'down';
    if (ended)
      throw new MinikeepError('deployment.ended', `${name} was taken down`, {
        next: `Bring it up again: minikeep up ${name}`,
      });
    if (view.phase.type === 'ready') return cluster.statusOf(name);
    if (view.phase.type === 'idle' && view.error !== undefined)
      throw new MinikeepError(view.error.code, view.error.message, {
        next: `${view.error.next} It is tried again by itself; to give up: minikeep down ${name}`,
        exitCode: view.error.exitCode,
        details: view.error.details,
      });
    await reconciler.changed(signal);
  }
}

/** Plans, has it kept, and tells until every deployment is up elsewhere. Throws `drain.no_room` before anything is touched. */
export async function* drainNode(
  cluster: Cluster,
  node: string,
  timeoutSeconds: number,
  signal: AbortSignal,
): AsyncGenerator<DrainNodeResponse, void, undefined> {
  const seconds = Math.min(timeoutSeconds || DRAIN_TIMEOUT_SECONDS, DRAIN_TIMEOUT_SECONDS_MAX);
  const { reconciler } = cluster;
  // It is there until it has been left: layers may come from it.
  const { names, moves, why } = await movesFrom(cluster, node, cluster.nodes, signal);
  const stuck = names.find((name) => !moves.has(name));
  if (stuck !== undefined && why !== undefined) throw withReason(noRoomElsewhere(node, stuck), why);
  const events = new EventQueue<DrainNodeResponse>(EVENTS_MAX);
  const watches = names.map((name) => ({ name, ...reconciler.watch(name) }));
  try {
    await reconciler.drain(node, seconds * 1000, moves);
    yield { event: { $case: 'accepted', value: { deployments: names } } };
    for (const { name, progress } of watches)
      void tell(progress, (value) =>
        events.push({ event: { $case: 'progress', value: { deployment: name, progress: value } } }),
      );
    Promise.all(
      names.map(async (name) => {
        const value = await untilReady(cluster, name, signal);
        events.push({ event: { $case: 'moved', value } });
      }),
    ).then(
      () => events.end(),
      (error: unknown) => events.end(toMinikeepError(error)),
    );
    yield* events;
  } finally {
    for (const watch of watches) watch.stop();
  }
}

/**
 * Before a node is shut out: its deployments are kept to be on the others. Returns which, and (with `force`) those that
 * have no room there. Throws `remove.no_room` before anything is touched.
 */
export async function leaveNode(
  cluster: Cluster,
  node: string,
  force: boolean,
  signal: AbortSignal,
): Promise<{ readonly moved: string[]; readonly stuck: string[] }> {
  const [link] = cluster.nodesNamed([node]);
  const sources = cluster.nodes.filter((other) => other !== link);
  const limit = deadline(force ? FORCED_PLAN_MS : PLAN_MS, signal);
  const { names, moves, why } = await movesFrom(cluster, node, sources, limit).catch(
    (thrown: unknown) => {
      if (!force) throw thrown;
      return { names: [], moves: new Map<string, Placement>(), why: undefined };
    },
  );
  const stuck = names.filter((name) => !moves.has(name));
  if (stuck[0] !== undefined && !force && why !== undefined)
    throw withReason(noRoomWithout(node, stuck[0]), why);
  await cluster.reconciler.leave(node, moves, force);
  return { moved: names.filter((name) => moves.has(name)), stuck };
}

/** Where the deployments of a node could go. `sources`: nodes that can send what they hold. */
async function movesFrom(
  cluster: Cluster,
  node: string,
  sources: readonly NodeLink[],
  signal: AbortSignal,
) {
  const { reconciler } = cluster;
  const [link] = cluster.nodesNamed([node]);
  const usable = cluster.nodes.filter(
    (other) => other !== link && other.up && !reconciler.isDraining(other.name),
  );
  const leaving = reconciler.views
    .map(({ row }) => row)
    .filter(
      ({ wanted, placement }) =>
        wanted === 'up' && placement.stages.some((stage) => stage.node === node),
    );
  const running = (name: string) => reconciler.running(name);
  const check = (plan: DeploymentPlan): Promise<unknown> =>
    checkTransfers(slicesOf(plan, wholePlan(plan)), {
      source: plan.source,
      nodes: sources,
      signal,
    });
  const planning = { ...cluster.planning, check };
  const found = await planMoves(leaving, usable, running, planning, signal);
  return { names: leaving.map(({ name }) => name), ...found };
}

const withReason = (error: MinikeepError, why: MinikeepError): MinikeepError =>
  new MinikeepError(error.code, `${error.message}: ${why.message}`, {
    next: error.next,
    exitCode: error.exitCode,
    details: error.details,
  });
