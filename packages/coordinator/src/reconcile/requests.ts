/** The operator's requests about deployments that are kept, and nodes that are drained. */
import { EventQueue, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { DeployProgress, DeploymentStatus, DrainNodeResponse } from '@minikeep/protocol/v1';
import type { Cluster } from '../cluster.ts';
import type { DeploymentPlan } from '../deployment-plan.ts';
import { noRoomElsewhere } from './faults.ts';
import { placementOf, planMoves } from './plans.ts';

const DRAIN_TIMEOUT_SECONDS = 300;
const DRAIN_TIMEOUT_SECONDS_MAX = 24 * 3600;
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
  const names = leaving.map(({ name }) => name);
  const running = (name: string) => reconciler.running(name);
  const { moves, why } = await planMoves(leaving, usable, running, cluster.planning, signal);
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

const withReason = (error: MinikeepError, why: MinikeepError): MinikeepError =>
  new MinikeepError(error.code, `${error.message}: ${why.message}`, {
    next: error.next,
    exitCode: error.exitCode,
    details: error.details,
  });
