/** One step of reconciling at work: the state being changed, and the effects so far. */
import type { MinikeepError } from '@minikeep/protocol';
import { highestEpoch, partsToAttach } from './match.ts';
import type {
  DeploymentView,
  Fault,
  NodeView,
  Phase,
  ReconcileEffect,
  ReconcileState,
  WantedDeployment,
} from './types.ts';

const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 60_000;
/** Up for so long, a deployment that breaks is tried again at once. */
const STEADY_MS = 60_000;
/** Attempts to attach engines before they are loaded anew. */
const ATTACH_TRIES_MAX = 3;
const IDLE: Phase = { type: 'idle' };

export class Draft {
  readonly nowMs: number;
  readonly nodes: Map<string, NodeView>;
  readonly deployments: Map<string, DeploymentView>;
  readonly effects: ReconcileEffect[] = [];
  #questions: number;

  constructor(state: ReconcileState, nowMs: number) {
    this.nowMs = nowMs;
    this.nodes = new Map(state.nodes);
    this.deployments = new Map(state.deployments);
    this.#questions = state.questions;
  }

  /** The state after the step: what nobody wants is told to go, and what is wanted begins if it can. */
  finish(): ReconcileState {
    for (const [name, view] of this.deployments) this.#decide(name, view);
    for (const [name, node] of this.nodes) this.#tidy(name, node);
    const wakes = [...this.deployments.values()].flatMap((view) => this.#wakeOf(view));
    if (wakes.length > 0) this.effects.push({ type: 'wake', atMs: Math.min(...wakes) });
    return { nodes: this.nodes, deployments: this.deployments, questions: this.#questions };
  }

  change(name: string, change: Partial<DeploymentView>): void {
    const view = this.deployments.get(name);
    if (view !== undefined) this.deployments.set(name, { ...view, ...change });
  }

  changeNode(name: string, change: Partial<NodeView>): void {
    const node = this.nodes.get(name);
    if (node !== undefined) this.nodes.set(name, { ...node, ...change });
  }

  save(row: WantedDeployment): void {
    this.change(row.name, { row });
    this.effects.push({ type: 'save', row });
  }

  /** What was known of the node is outdated. */
  askAgain(name: string): void {
    const node = this.nodes.get(name);
    if (node === undefined) return;
    const question = ++this.#questions;
    this.changeNode(name, { parts: undefined, asked: question });
    if (node.up) this.effects.push({ type: 'ask_node', node: name, question });
  }

  /** Its engines are to be ended; begins anew, if it is wanted, when they are. */
  end(view: DeploymentView, epoch: number): void {
    const { name } = view.row;
    this.change(name, { phase: { type: 'ending', epoch } });
    this.effects.push({ type: 'end', name, epoch });
  }

  /** What was under way is over; what the nodes hold has changed. */
  rest(view: DeploymentView, change: Partial<DeploymentView>): void {
    this.change(view.row.name, { ...change, phase: IDLE });
    // What leaves a node ran where the row no longer says, and the node's last report may be from before that.
    const moved = view.phase.type === 'draining' || view.phase.type === 'ending';
    for (const [name, node] of this.nodes)
      if (node.up && (moved || node.parts === undefined || touches(view, name, node)))
        this.askAgain(name);
  }

  failed(view: DeploymentView, error: MinikeepError, fault: Fault): void {
    const { phase } = view;
    const steady = phase.type === 'ready' && this.nowMs - phase.sinceMs >= STEADY_MS;
    const tries = steady ? 0 : view.tries + 1;
    const attached = phase.type === 'attaching';
    const reload = fault === 'all' || (fault === 'way' && attached && tries >= ATTACH_TRIES_MAX);
    // It leaves its node anyway, and those who wait need not wait for the same error again.
    const moving = phase.type === 'draining';
    const pause = tries === 0 ? 0 : Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (tries - 1));
    this.rest(view, {
      tries: moving ? view.tries : tries,
      retryAtMs: moving ? this.nowMs : this.nowMs + pause,
      reload: reload || view.reload,
      hold: moving,
      error: moving ? view.error : error,
    });
  }

  #decide(name: string, view: DeploymentView): void {
    const { row, phase } = view;
    if (phase.type === 'draining' && this.nowMs >= phase.untilMs) {
      this.end(view, phase.epoch);
      return;
    }
    if (phase.type !== 'idle' || row.wanted !== 'up') return;
    const placed = row.placement.stages.map(({ node }) => this.nodes.get(node));
    if (placed.some((node) => node?.up !== true) || this.nowMs < view.retryAtMs) return;
    if (placed.some((node) => node?.parts === undefined)) return;
    const found = view.reload || view.unused ? undefined : partsToAttach(row, this.nodes);
    if (found !== undefined) {
      const { missing: loading } = found;
      this.change(name, { phase: { type: 'attaching', epoch: row.epoch, loading } });
      this.effects.push({ type: 'attach', row, found });
      return;
    }
    const next = view.unused ? row.epoch : row.epoch + 1;
    // A home that was put back from an old copy knows less than the nodes.
    const epoch = Math.max(next, highestEpoch(name, this.nodes) + 1);
    const begun = { ...row, epoch };
    this.save(begun);
    this.change(name, { phase: { type: 'starting', epoch }, unused: false, reload: false });
    this.effects.push({ type: 'start', row: begun });
  }

  #tidy(name: string, node: NodeView): void {
    if (node.parts === undefined) return;
    const kept = node.parts.filter((part) => {
      const view = this.deployments.get(part.deployment);
      if (view !== undefined && wants(view, name)) return true;
      const { deployment, epoch } = part;
      this.effects.push({ type: 'unload', node: name, deployment, epoch });
      return false;
    });
    if (kept.length < node.parts.length) this.changeNode(name, { parts: kept });
  }

  #wakeOf({ phase, row, retryAtMs }: DeploymentView): number[] {
    if (phase.type === 'draining') return [phase.untilMs];
    const waits = phase.type === 'idle' && row.wanted === 'up' && retryAtMs > this.nowMs;
    return waits ? [retryAtMs] : [];
  }
}

export const uses = (view: DeploymentView, node: string): boolean =>
  view.row.placement.stages.some((stage) => stage.node === node);

const touches = (view: DeploymentView, name: string, node: NodeView): boolean =>
  uses(view, name) || (node.parts ?? []).some((part) => part.deployment === view.row.name);

/** What is ending is ended by whoever began that; what drains still runs where it was. */
function wants(view: DeploymentView, node: string): boolean {
  const { type } = view.phase;
  if (type === 'ending' || type === 'draining') return true;
  return view.row.wanted === 'up' && uses(view, node);
}
