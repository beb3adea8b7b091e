/**
 * Reconciling: events in, effects out. Every change of what is wanted is saved by the same step that acts on it, so a
 * coordinator that is killed at any instant finds its way again from what is on the disk and what the nodes say.
 *
 * Invariants: of a deployment at most one epoch is begun at a time, and the next only after the one before has ended
 * here; an epoch is saved before it begins; engines are attached only if they are of the saved placement and epoch, and
 * what is missing beside them is loaded in that epoch.
 */
import type { MinikeepError } from '@minikeep/protocol';
import { Draft, uses } from './draft.ts';
import {
  alreadyUp,
  nodeDraining,
  noRoomElsewhere,
  noRoomWithout,
  notReady,
  notUp,
  unknownNode,
  waitingFor,
} from './faults.ts';
import type {
  DeploymentView,
  NodeView,
  Placement,
  ReconcileEffect,
  ReconcileEvent,
  ReconcileState,
  WantedDeployment,
} from './types.ts';

export interface ReconcileStep {
  readonly state: ReconcileState;
  readonly effects: readonly ReconcileEffect[];
}

const NEW_NODE: Omit<NodeView, 'draining'> = {
  up: false,
  tried: false,
  error: undefined,
  parts: undefined,
  asked: 0,
};

const NEW_DEPLOYMENT: Omit<DeploymentView, 'row'> = {
  phase: { type: 'idle' },
  unused: false,
  reload: false,
  hold: false,
  tries: 0,
  retryAtMs: 0,
  error: undefined,
};

/** What a coordinator knows when it starts: what was wanted. */
export function afterStart(rows: readonly WantedDeployment[]): ReconcileState {
  const deployments = new Map(rows.map((row) => [row.name, { ...NEW_DEPLOYMENT, row }]));
  return { nodes: new Map(), deployments, questions: 0 };
}

export function step(state: ReconcileState, event: ReconcileEvent, nowMs: number): ReconcileStep {
  const draft = new Draft(state, nowMs);
  switch (event.type) {
    case 'node_added':
      draft.nodes.set(event.node, { ...NEW_NODE, draining: event.draining });
      break;
    case 'node_removed':
      draft.nodes.delete(event.node);
      break;
    case 'node_up':
      draft.changeNode(event.node, { up: true, tried: true, error: undefined });
      draft.askAgain(event.node);
      break;
    case 'node_down':
      draft.changeNode(event.node, {
        up: false,
        tried: true,
        error: event.error,
        parts: undefined,
        asked: 0,
      });
      break;
    case 'node_report':
      if (draft.nodes.get(event.node)?.asked === event.question)
        draft.changeNode(event.node, { parts: event.parts });
      break;
    case 'up_asked':
      up(draft, event);
      break;
    case 'down_asked':
      down(draft, event.ask, event.name);
      break;
    case 'drain_asked':
      drain(draft, event);
      break;
    case 'remove_asked':
      remove(draft, event);
      break;
    case 'resume_asked':
      resume(draft, event.ask, event.node);
      break;
    case 'placed':
    case 'ready':
    case 'failed':
    case 'ended':
    case 'quiet':
      outcome(draft, event);
      break;
    case 'timer':
      break;
  }
  return { state: draft.finish(), effects: draft.effects };
}

/** Whether a request can be served: now, in a moment, or not (with the reason). */
export function availability(
  state: ReconcileState,
  name: string,
): 'serve' | 'hold' | MinikeepError {
  const view = state.deployments.get(name);
  if (view === undefined || view.row.wanted === 'down') return notUp(name);
  const { phase, hold, row, error } = view;
  if (phase.type === 'ready') return 'serve';
  if (phase.type === 'draining' || phase.type === 'attaching' || hold) return 'hold';
  for (const { node } of row.placement.stages) {
    const there = state.nodes.get(node);
    if (there === undefined) return waitingFor(name, node, unknownNode(node));
    // A coordinator that has just started gives its nodes a moment.
    if (!there.tried) return 'hold';
    if (!there.up) return waitingFor(name, node, there.error);
    // Its engines may run: that is known in a moment.
    if (phase.type === 'idle' && there.parts === undefined) return 'hold';
  }
  return notReady(name, error);
}

type Ask<T extends ReconcileEvent['type']> = Extract<ReconcileEvent, { type: T }>;

function up(draft: Draft, { ask, name, model, placement }: Ask<'up_asked'>): void {
  const before = draft.deployments.get(name);
  const bad = placement.stages.find(({ node }) => draft.nodes.get(node)?.draining !== false);
  if (before?.row.wanted === 'up' || bad !== undefined) {
    const error =
      bad === undefined
        ? alreadyUp(name)
        : draft.nodes.has(bad.node)
          ? nodeDraining(bad.node)
          : unknownNode(bad.node);
    draft.effects.push({ type: 'refuse', ask, error });
    return;
  }
  const epoch = (before?.row.epoch ?? 0) + 1;
  const row: WantedDeployment = { name, model, epoch, wanted: 'up', placement };
  // One that is still ending keeps its phase: this begins when that has ended.
  const { phase } = before ?? NEW_DEPLOYMENT;
  draft.deployments.set(name, { ...NEW_DEPLOYMENT, row, phase, unused: true });
  draft.save(row);
  draft.effects.push({ type: 'accept', ask });
}

function down(draft: Draft, ask: number, name: string): void {
  const view = draft.deployments.get(name);
  if (view?.row.wanted !== 'up') {
    draft.effects.push({ type: 'refuse', ask, error: notUp(name) });
    return;
  }
  draft.save({ ...view.row, wanted: 'down' });
  draft.change(name, { hold: false, error: undefined });
  draft.effects.push({ type: 'accept', ask });
  if (view.phase.type !== 'idle' && view.phase.type !== 'ending') draft.end(view, view.phase.epoch);
}

function drain(draft: Draft, { ask, node, timeoutMs, moves }: Ask<'drain_asked'>): void {
  const refuse = (error: MinikeepError): void => {
    draft.effects.push({ type: 'refuse', ask, error });
  };
  if (!draft.nodes.has(node)) {
    refuse(unknownNode(node));
    return;
  }
  const leaving = leavingOf(draft, node);
  const stuck = leaving.find(({ row }) => !canMove(draft, node, moves.get(row.name)));
  if (stuck !== undefined) {
    refuse(noRoomElsewhere(node, stuck.row.name));
    return;
  }
  draft.changeNode(node, { draining: true });
  draft.effects.push({ type: 'save_draining', node, draining: true });
  for (const view of leaving) {
    const { name } = view.row;
    // Saved now: a coordinator that is killed before the move goes on with it.
    draft.save({ ...view.row, placement: moves.get(name) ?? view.row.placement });
    draft.change(name, { reload: true, hold: true });
    const { phase } = view;
    if (phase.type === 'ready') {
      const { epoch } = phase;
      draft.change(name, {
        phase: { type: 'draining', epoch, untilMs: draft.nowMs + timeoutMs },
      });
      draft.effects.push({ type: 'finish', name, epoch });
    } else if (phase.type === 'starting' || phase.type === 'attaching')
      draft.end(view, phase.epoch);
  }
  draft.effects.push({ type: 'accept', ask });
}

/** What it held starts on the others as soon as its engines are ended; nothing may go on there. */
function remove(draft: Draft, { ask, node, moves, force }: Ask<'remove_asked'>): void {
  const leaving = leavingOf(draft, node);
  const stuck = leaving.find(({ row }) => !canMove(draft, node, moves.get(row.name)));
  if (!draft.nodes.has(node) || (stuck !== undefined && !force)) {
    const error = stuck === undefined ? unknownNode(node) : noRoomWithout(node, stuck.row.name);
    draft.effects.push({ type: 'refuse', ask, error });
    return;
  }
  for (const view of leaving) {
    const { name } = view.row;
    const move = moves.get(name);
    if (move === undefined || !canMove(draft, node, move)) continue;
    draft.save({ ...view.row, placement: move });
    draft.change(name, { reload: true, hold: true });
    const { phase } = view;
    if (phase.type !== 'idle' && phase.type !== 'ending') draft.end(view, phase.epoch);
  }
  draft.effects.push({ type: 'accept', ask });
}

/** Deployments that have a stage there. */
const leavingOf = (draft: Draft, node: string): DeploymentView[] =>
  [...draft.deployments.values()].filter((view) => view.row.wanted === 'up' && uses(view, node));

const canMove = (draft: Draft, from: string, move: Placement | undefined): boolean =>
  move?.stages.every(({ node }) => node !== from && draft.nodes.get(node)?.draining === false) ===
  true;

function resume(draft: Draft, ask: number, node: string): void {
  if (!draft.nodes.has(node)) {
    draft.effects.push({ type: 'refuse', ask, error: unknownNode(node) });
    return;
  }
  draft.changeNode(node, { draining: false });
  draft.effects.push({ type: 'save_draining', node, draining: false }, { type: 'accept', ask });
}

/** What became of something that was begun; anything else than what is under way is old news. */
function outcome(
  draft: Draft,
  event: Ask<'placed'> | Ask<'ready'> | Ask<'failed'> | Ask<'ended'> | Ask<'quiet'>,
): void {
  const view = draft.deployments.get(event.name);
  if (view === undefined || view.phase.type === 'idle' || view.phase.epoch !== event.epoch) return;
  const { phase, row } = view;
  const { epoch } = event;
  if (event.type === 'ended') {
    if (phase.type === 'ending') draft.rest(view, { tries: 0, retryAtMs: draft.nowMs });
  } else if (phase.type === 'ending') return;
  else if (event.type === 'failed') draft.failed(view, event.error, event.fault);
  else if (event.type === 'placed') {
    if (phase.type === 'starting') draft.save({ ...row, placement: event.placement });
  } else if (event.type === 'quiet') {
    if (phase.type === 'draining') draft.end(view, epoch);
  } else if (phase.type === 'starting' || phase.type === 'attaching')
    draft.change(row.name, {
      phase: { type: 'ready', epoch, sinceMs: draft.nowMs },
      hold: false,
      error: undefined,
    });
}
