/**
 * Carries out what reconciling decides: saves before it acts, asks nodes, begins and ends epochs, and lets requests wait
 * while a deployment is about to be back. The decisions are in step.ts.
 */
import { CALL_TIMEOUT_MS, EventQueue, MinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { DeployProgress, HostedPart } from '@minikeep/protocol/v1';
import { aborted } from '../aborted.ts';
import type { Deployment } from '../deployment.ts';
import { takenDown } from '../node-faults.ts';
import type { NodeLink } from '../node-link.ts';
import { Running, type Lease, type RunningOptions } from './running.ts';
import { afterStart, availability, step } from './step.ts';
import type { WantedStore } from './store.ts';
import type {
  DeploymentView,
  Placement,
  ReconcileEffect,
  ReconcileEvent,
  ReconcileState,
} from './types.ts';

const AGAIN_MS = 1_000;
const UNLOAD_TRIES_MAX = 5;
const UNLOAD_TIMEOUT_MS = 10_000;
/** Requests that wait for one deployment. */
const HELD_MAX = 256;
/** Loading the largest model takes about as long. */
const HELD_MS_MAX = 15 * 60_000;
const TIMER_MS_MAX = 2 ** 31 - 1;
const WATCH_EVENTS_MAX = 10_000;

export interface ReconcilerOptions extends Omit<
  RunningOptions,
  'onReady' | 'onFailed' | 'onPlaced' | 'onProgress'
> {
  readonly store: WantedStore;
  node(name: string): NodeLink | undefined;
  /** Why an epoch broke, or could not begin. */
  onFault(name: string, error: MinikeepError): void;
  /** Deployments that are not kept, and none of this business. */
  isOther(name: string): boolean;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #running: Running;
  #state: ReconcileState;
  readonly #events: ReconcileEvent[] = [];
  /** Until `start`, events only queue. */
  #working = true;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #asks = 0;
  readonly #answers = new Map<number, (error?: MinikeepError) => void>();
  /** Called after each change, once. */
  #waiters = new Set<() => void>();
  readonly #held = new Map<string, number>();
  readonly #watchers = new Map<string, Set<EventQueue<DeployProgress>>>();
  /** Engines of a deployment that are just being ended. */
  readonly #unloading = new Map<string, Promise<unknown>>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#state = afterStart(options.store.rows());
    this.#running = new Running({
      ...options,
      onProgress: (name, progress) => {
        for (const queue of this.#watchers.get(name) ?? []) queue.push(progress);
      },
      onPlaced: ({ name, epoch, placement }) =>
        this.#feed({ type: 'placed', name, epoch, placement }),
      onReady: (name, epoch) => this.#feed({ type: 'ready', name, epoch }),
      onFailed: (name, epoch, error, fault) => {
        this.#feed({ type: 'failed', name, epoch, error, fault });
        options.onFault(name, error);
      },
    });
  }

  start(): void {
    this.#work();
  }

  /** A deployment of that name is wanted, or is just being ended. */
  keeps(name: string): boolean {
    const view = this.view(name);
    return view !== undefined && (view.row.wanted === 'up' || view.phase.type !== 'idle');
  }

  /** What of it runs now. */
  running(name: string): Deployment | undefined {
    return this.#running.deployment(name);
  }

  get views(): readonly DeploymentView[] {
    return [...this.#state.deployments.values()];
  }

  view(name: string): DeploymentView | undefined {
    return this.#state.deployments.get(name);
  }

  /** Why requests fail now; undefined when they don't. */
  unavailable(name: string): MinikeepError | undefined {
    const now = availability(this.#state, name);
    return now instanceof MinikeepError ? now : undefined;
  }

  isDraining(node: string): boolean {
    return this.#state.nodes.get(node)?.draining === true;
  }

  nodeAdded(node: string): void {
    const draining = this.#options.store.drainingNodes().has(node);
    this.#feed({ type: 'node_added', node, draining });
  }

  nodeRemoved(node: string): void {
    this.#feed({ type: 'node_removed', node });
  }

  nodeUp(node: string): void {
    this.#feed({ type: 'node_up', node });
  }

  nodeDown(node: string, error: MinikeepError): void {
    this.#feed({ type: 'node_down', node, error });
  }

  /** Resolves when it is kept that the deployment is wanted. Throws `deployment.exists`, `node.draining`, `node.unknown`, `state.*`. */
  up(name: string, model: string, placement: Placement): Promise<void> {
    return this.#ask((ask) => ({ type: 'up_asked', ask, name, model, placement }));
  }

  /** Resolves when its engines are ended, on the nodes that are there. Throws `deployment.unknown`, `state.*`. */
  async down(name: string, signal: AbortSignal): Promise<void> {
    await this.#ask((ask) => ({ type: 'down_asked', ask, name }));
    while (this.view(name)?.phase.type === 'ending') await this.changed(signal);
    await this.#unloading.get(name);
  }

  /** Resolves when it is kept that the node is drained. Throws `drain.no_room`, `node.unknown`, `state.*`. */
  drain(node: string, timeoutMs: number, moves: ReadonlyMap<string, Placement>): Promise<void> {
    return this.#ask((ask) => ({ type: 'drain_asked', ask, node, timeoutMs, moves }));
  }

  /** Resolves when what the node held is kept to be elsewhere. Throws `remove.no_room`, `node.unknown`, `state.*`. */
  leave(node: string, moves: ReadonlyMap<string, Placement>, force: boolean): Promise<void> {
    return this.#ask((ask) => ({ type: 'remove_asked', ask, node, moves, force }));
  }

  resume(node: string): Promise<void> {
    return this.#ask((ask) => ({ type: 'resume_asked', ask, node }));
  }

  /** The deployment, for one request: at once, or when it is back. Throws why it can't be served. */
  async lease(name: string, signal: AbortSignal): Promise<Lease> {
    const limit = deadline(HELD_MS_MAX, signal);
    const held = (this.#held.get(name) ?? 0) + 1;
    this.#held.set(name, held);
    try {
      for (;;) {
        const now = availability(this.#state, name);
        if (now instanceof MinikeepError) throw now;
        const lease = now === 'serve' ? this.#running.lease(name) : undefined;
        if (lease !== undefined) return lease;
        if (held > HELD_MAX) throw tooManyWait(name);
        await this.changed(limit);
      }
    } finally {
      this.#held.set(name, (this.#held.get(name) ?? 1) - 1);
    }
  }

  /** Resolves with the next change of anything; throws the signal's reason. */
  async changed(signal: AbortSignal): Promise<void> {
    let wake = (): void => {};
    const change = new Promise<void>((resolve) => (wake = resolve));
    this.#waiters.add(wake);
    try {
      await Promise.race([change, aborted(signal)]);
    } finally {
      this.#waiters.delete(wake);
    }
  }

  /** Progress of a deployment from now on; `stop` ends it. */
  watch(name: string): { readonly progress: EventQueue<DeployProgress>; stop(): void } {
    const progress = new EventQueue<DeployProgress>(WATCH_EVENTS_MAX);
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(progress));
    const stop = (): void => {
      watchers.delete(progress);
      progress.end();
    };
    return { progress, stop };
  }

  /** Nothing is decided any more; engines go on, for the coordinator's next life. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const why = new MinikeepError('deployment.ended', 'the coordinator ends', {
      next: 'Ask again when it is back.',
    });
    for (const answer of this.#answers.values()) answer(why);
    await this.#running.detachAll(why);
    for (const wake of this.#waiters) wake();
  }

  #ask(event: (ask: number) => ReconcileEvent): Promise<void> {
    const ask = ++this.#asks;
    return new Promise((resolve, reject) => {
      this.#answers.set(ask, (error) => {
        this.#answers.delete(ask);
        if (error === undefined) resolve();
        else reject(error);
      });
      this.#feed(event(ask));
    });
  }

  #feed(event: ReconcileEvent): void {
    if (this.#closed) return;
    this.#events.push(event);
    if (!this.#working) this.#work();
  }

  #work(): void {
    this.#working = true;
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
      const { state, effects } = step(this.#state, event, performance.now());
      const error = this.#save(effects);
      if (error !== undefined && 'ask' in event) {
        this.#answers.get(event.ask)?.(error);
        continue;
      }
      if (error !== undefined) {
        // What can't be kept must not be done: the same again in a moment, and nothing before it.
        this.#events.unshift(event);
        this.#timer = setTimeout(() => this.#work(), AGAIN_MS);
        return;
      }
      this.#state = state;
      clearTimeout(this.#timer);
      for (const effect of effects) this.#carryOut(effect);
      for (const wake of this.#waiters) wake();
    }
    this.#working = false;
  }

  #save(effects: readonly ReconcileEffect[]): MinikeepError | undefined {
    const rows = effects.flatMap((e) => (e.type === 'save' ? [e.row] : []));
    const draining = new Map(
      effects.flatMap((e) => (e.type === 'save_draining' ? [[e.node, e.draining] as const] : [])),
    );
    if (rows.length === 0 && draining.size === 0) return undefined;
    try {
      this.#options.store.save({ rows, draining });
      return undefined;
    } catch (thrown) {
      if (thrown instanceof MinikeepError) return thrown;
      throw thrown;
    }
  }

  #carryOut(effect: ReconcileEffect): void {
    switch (effect.type) {
      case 'save':
      case 'save_draining':
        return;
      case 'accept':
        this.#answers.get(effect.ask)?.();
        return;
      case 'refuse':
        this.#answers.get(effect.ask)?.(effect.error);
        return;
      case 'ask_node':
        void this.#askNode(effect.node, effect.question);
        return;
      case 'start':
        this.#running.start(effect.row, this.#unloading.get(effect.row.name) ?? Promise.resolve());
        return;
      case 'attach':
        this.#running.attach(effect.row, effect.found);
        return;
      case 'end': {
        const { name, epoch } = effect;
        const moves = this.view(name)?.row.wanted === 'up';
        void this.#running
          .end(name, epoch, moves ? moving(name) : takenDown(name))
          .then(() => this.#feed({ type: 'ended', name, epoch }));
        return;
      }
      case 'finish': {
        const { name, epoch } = effect;
        this.#running.whenQuiet(name, epoch, () => this.#feed({ type: 'quiet', name, epoch }));
        return;
      }
      case 'unload':
        this.#unload(effect.node, effect.deployment, effect.epoch);
        return;
      case 'wake': {
        const ms = Math.max(1, Math.min(TIMER_MS_MAX, effect.atMs - performance.now()));
        this.#timer = setTimeout(() => this.#feed({ type: 'timer' }), ms);
      }
    }
  }

  /** Until it answers, is gone, or was asked again. */
  async #askNode(node: string, question: number): Promise<void> {
    for (;;) {
      const link = this.#options.node(node);
      if (this.#closed || link?.up !== true || this.#state.nodes.get(node)?.asked !== question)
        return;
      try {
        const { parts } = await link.agent.inventory({}, { signal: deadline(CALL_TIMEOUT_MS) });
        this.#feed({ type: 'node_report', node, question, parts: this.#ours(parts) });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
  }

  #ours(parts: readonly HostedPart[]): HostedPart[] {
    return parts.filter((part) => !this.#options.isOther(part.deployment));
  }

  #unload(node: string, deployment: string, epoch: number): void {
    const work = async (): Promise<void> => {
      for (let tries = 0; tries < UNLOAD_TRIES_MAX && !this.#closed; tries++) {
        const link = this.#options.node(node);
        // Whoever is gone is asked what it holds when it is back.
        if (link?.up !== true) return;
        try {
          const signal = deadline(UNLOAD_TIMEOUT_MS);
          await link.agent.unload({ deployment, epoch }, { signal });
          return;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
        }
      }
    };
    const all = Promise.all([this.#unloading.get(deployment), work()]).then(() => {
      if (this.#unloading.get(deployment) === all) this.#unloading.delete(deployment);
    });
    this.#unloading.set(deployment, all);
  }
}

function moving(name: string): MinikeepError {
  return new MinikeepError('deployment.moved', `${name} moves to other nodes`, {
    next: 'Ask again: requests wait until it is there.',
  });
}

function tooManyWait(name: string): MinikeepError {
  return new MinikeepError('generate.queue_full', `${HELD_MAX} requests already wait for ${name}`, {
    next: 'Try again when it is up: see `minikeep status`.',
  });
}
