/**
 * A world for reconciling: nodes with engines, a coordinator that can be killed at any instant, and messages that take
 * their time. Everything is chosen by numbers that the test draws; nothing here waits.
 */
import { MinikeepError } from '@minikeep/protocol';
import { ContextSettings, EngineReady, HostedPart, LoadStage } from '@minikeep/protocol/v1';
import { afterStart, step } from '../src/reconcile/step.ts';
import type {
  Fault,
  FoundParts,
  Placement,
  ReconcileEffect,
  ReconcileEvent,
  ReconcileState,
  WantedDeployment,
} from '../src/reconcile/types.ts';

export const NODES = ['a', 'b', 'c', 'd'] as const;
const CONTEXT = ContextSettings.create({ nCtx: 64, nBatch: 8, nSeqMax: 1, threads: 1 });
const LAYERS = 4;

/** One engine for each of the nodes, in that order. */
export function placementOn(nodes: readonly string[]): Placement {
  return {
    modelPath: '/m.gguf',
    modelSha256: 'f'.repeat(64),
    architecture: 'llama',
    context: CONTEXT,
    stages: nodes.map((node, i) => ({
      node,
      layers: [i * LAYERS, (i + 1) * LAYERS],
      sliceBytes: 1,
      sliceSha256: '',
      embeddingSha256: '',
    })),
    text: false,
    textSha256: '',
  };
}

const digestOf = (i: number, of: number): string => `${i}-of-${of}`.padEnd(64, '0');

export function sent(placement: Placement): Placement {
  const { length } = placement.stages;
  const stages = placement.stages.map((s, i) => ({ ...s, sliceSha256: digestOf(i, length) }));
  return { ...placement, stages };
}

export function loadedPart({ name, epoch, placement }: WantedDeployment, i: number): HostedPart {
  const stage = placement.stages[i];
  if (stage === undefined) throw new Error('no such stage');
  const [start, end] = stage.layers;
  const load = LoadStage.create({
    sliceSha256: stage.sliceSha256,
    first: i === 0,
    last: i === placement.stages.length - 1,
    layers: { start, end },
    context: placement.context,
  });
  return HostedPart.create({
    deployment: name,
    epoch,
    stage: { load, ready: EngineReady.create({}), session: 1 },
  });
}

interface Message {
  readonly run: () => void;
}

interface Node {
  up: boolean;
  readonly parts: Map<string, HostedPart>;
}

export class World {
  /** What is on the disk. */
  readonly rows = new Map<string, WantedDeployment>();
  readonly draining = new Set<string>();
  readonly nodes = new Map<string, Node>(
    NODES.map((name) => [name, { up: true, parts: new Map<string, HostedPart>() }]),
  );
  /** The epoch that the coordinator has under way, by deployment. */
  readonly running = new Map<string, number>();
  /** Highest epoch ever begun. */
  readonly begun = new Map<string, number>();
  readonly wanted = new Set<string>();
  readonly faults: string[] = [];
  readonly starts: string[] = [];
  readonly attaches: string[] = [];
  /** Every engine that was loaded: deployment, epoch, node. */
  readonly loads: string[] = [];
  refusals = 0;
  nowMs = 0;
  state: ReconcileState = afterStart([]);
  /** Of this life of the coordinator. */
  #messages: Message[] = [];
  #ask = 0;
  readonly #asks = new Map<number, () => void>();
  wakeMs = Infinity;

  constructor() {
    this.boot();
  }

  boot(): void {
    this.state = afterStart([...this.rows.values()]);
    for (const name of NODES)
      this.feed({ type: 'node_added', node: name, draining: this.draining.has(name) });
    for (const [name, node] of this.nodes) if (node.up) this.#later(() => this.#nodeUp(name));
  }

  /** SIGKILL and a new life: what was under way is gone, engines and disk stay. */
  crash(): void {
    this.#messages = [];
    this.#asks.clear();
    this.running.clear();
    this.wakeMs = Infinity;
    this.boot();
  }

  feed(event: ReconcileEvent): readonly ReconcileEffect[] {
    const { state, effects } = step(this.state, event, this.nowMs);
    this.state = state;
    this.wakeMs = Infinity;
    for (const effect of effects) this.#carryOut(effect);
    return effects;
  }

  up(name: string, nodes: readonly string[]): void {
    const ask = this.#asked(() => this.wanted.add(name));
    this.feed({ type: 'up_asked', ask, name, model: name, placement: placementOn(nodes) });
  }

  down(name: string): void {
    const ask = this.#asked(() => this.wanted.delete(name));
    this.feed({ type: 'down_asked', ask, name });
  }

  /** `room`: the others can take what leaves. */
  drain(node: string, room: boolean): void {
    const others = NODES.filter((name) => name !== node && !this.draining.has(name));
    const moves = new Map<string, Placement>();
    if (room && others.length > 0)
      for (const name of this.rows.keys()) moves.set(name, placementOn(others.slice(0, 2)));
    const needed = [...this.rows.values()].some(
      (row) => row.wanted === 'up' && row.placement.stages.some((stage) => stage.node === node),
    );
    const before = JSON.stringify([...this.rows.values()]);
    const ask = this.#asked(() => {
      if (needed && moves.size === 0) this.faults.push(`drained ${node} although nothing has room`);
    });
    const effects = this.feed({ type: 'drain_asked', ask, node, timeoutMs: 5_000, moves });
    if (!effects.some((effect) => effect.type === 'refuse')) return;
    const touched = effects.filter((e) => !['refuse', 'wake'].includes(e.type));
    if (touched.length > 0 || before !== JSON.stringify([...this.rows.values()]))
      this.faults.push(`a refused drain of ${node} changed something`);
  }

  resume(node: string): void {
    this.feed({ type: 'resume_asked', ask: this.#asked(() => {}), node });
  }

  /** Its agent ends, and its engines with it. */
  reboot(name: string): void {
    const node = this.nodes.get(name);
    if (node === undefined) return;
    node.parts.clear();
    this.#lost(name);
    if (node.up) this.#later(() => this.#nodeUp(name));
  }

  /** Only the way to it is cut; or it is away from now on. */
  away(name: string): void {
    const node = this.nodes.get(name);
    if (node?.up !== true) return;
    node.up = false;
    this.#lost(name);
  }

  back(name: string): void {
    const node = this.nodes.get(name);
    if (node?.up !== false) return;
    node.up = true;
    this.#later(() => this.#nodeUp(name));
  }

  engineDies(name: string): void {
    const parts = this.nodes.get(name)?.parts ?? new Map<string, HostedPart>();
    for (const [deployment, part] of parts) {
      parts.delete(deployment);
      if (this.running.get(deployment) === part.epoch) this.#fails(deployment, part.epoch, 'stage');
    }
  }

  /** One message arrives, any of those under way. */
  deliver(which: number): boolean {
    if (this.#messages.length === 0) return false;
    const [message] = this.#messages.splice(which % this.#messages.length, 1);
    message?.run();
    return true;
  }

  advance(ms: number): void {
    this.nowMs += ms;
    if (this.nowMs >= this.wakeMs) this.feed({ type: 'timer' });
  }

  /** No more trouble: everything arrives, every timer goes off. */
  settle(): void {
    for (const name of NODES) this.back(name);
    for (let round = 0; round < 10_000; round++) {
      while (this.deliver(0));
      if (this.wakeMs === Infinity) return;
      this.nowMs = Math.max(this.nowMs, this.wakeMs);
      this.feed({ type: 'timer' });
    }
    this.faults.push('it does not come to rest');
  }

  #asked(accepted: () => void): number {
    this.#asks.set(++this.#ask, accepted);
    return this.#ask;
  }

  #later(run: () => void): void {
    this.#messages.push({ run });
  }

  #nodeUp(name: string): void {
    if (this.nodes.get(name)?.up === true) this.feed({ type: 'node_up', node: name });
  }

  #lost(name: string): void {
    const error = new MinikeepError('node.unreachable', `${name} is away`, { next: 'Wait.' });
    for (const [deployment, epoch] of this.running) {
      const row = this.rows.get(deployment);
      // What drains runs where it was, which the row no longer says.
      const phase = this.state.deployments.get(deployment)?.phase.type;
      if (phase === 'draining' || row?.placement.stages.some((s) => s.node === name) === true)
        this.#fails(deployment, epoch, 'way');
    }
    this.feed({ type: 'node_down', node: name, error });
  }

  #fails(name: string, epoch: number, fault: Fault): void {
    // One that is being ended says only that.
    if (this.state.deployments.get(name)?.phase.type === 'ending') return;
    this.running.delete(name);
    const error = new MinikeepError('engine.died', 'it broke', { next: 'Wait.' });
    this.#later(() => this.feed({ type: 'failed', name, epoch, error, fault }));
  }

  #carryOut(effect: ReconcileEffect): void {
    switch (effect.type) {
      case 'save': {
        const before = this.rows.get(effect.row.name)?.epoch ?? 0;
        if (effect.row.epoch < before) this.faults.push('a saved epoch went back');
        this.rows.set(effect.row.name, effect.row);
        return;
      }
      case 'save_draining':
        if (effect.draining) this.draining.add(effect.node);
        else this.draining.delete(effect.node);
        return;
      case 'accept':
        this.#asks.get(effect.ask)?.();
        return;
      case 'refuse':
        this.refusals++;
        return;
      case 'ask_node':
        this.#later(() => {
          const node = this.nodes.get(effect.node);
          if (node?.up !== true) return;
          // The answer is of this moment, and arrives later.
          const parts = [...node.parts.values()];
          const { question } = effect;
          this.#later(() => this.feed({ type: 'node_report', node: effect.node, question, parts }));
        });
        return;
      case 'start':
        this.#begin(effect.row);
        this.#later(() => this.#load(effect.row, 0));
        return;
      case 'attach':
        this.attaches.push(`${effect.row.name} ${effect.row.epoch}`);
        if (this.running.has(effect.row.name)) this.faults.push('attached while it runs');
        this.running.set(effect.row.name, effect.row.epoch);
        this.#later(() => this.#mend(effect.row, effect.found, 0));
        return;
      case 'end':
        this.#later(() => {
          for (const { up, parts } of this.nodes.values())
            if (up && parts.get(effect.name)?.epoch === effect.epoch) parts.delete(effect.name);
          this.running.delete(effect.name);
          const { name, epoch } = effect;
          this.#later(() => this.feed({ type: 'ended', name, epoch }));
        });
        return;
      case 'finish': {
        const { name, epoch } = effect;
        this.#later(() => this.feed({ type: 'quiet', name, epoch }));
        return;
      }
      case 'unload':
        this.#unload(effect);
        return;
      case 'wake':
        this.wakeMs = effect.atMs;
        return;
    }
  }

  #unload({ node, deployment, epoch }: Extract<ReconcileEffect, { type: 'unload' }>): void {
    const serving = this.running.get(deployment) === epoch;
    const { placement } = this.rows.get(deployment) ?? { placement: placementOn([]) };
    if (serving && placement.stages.some((stage) => stage.node === node))
      this.faults.push(`engines of ${deployment} ended while they serve`);
    this.#later(() => {
      const { parts } = this.nodes.get(node) ?? { parts: new Map<string, HostedPart>() };
      if ((parts.get(deployment)?.epoch ?? Infinity) <= epoch) parts.delete(deployment);
    });
  }

  #begin(row: WantedDeployment): void {
    const { name, epoch } = row;
    this.starts.push(`${name} ${epoch}`);
    if (this.running.has(name)) this.faults.push(`two epochs of ${name} at once`);
    if (epoch <= (this.begun.get(name) ?? 0)) this.faults.push(`epoch ${epoch} of ${name} again`);
    if (this.rows.get(name)?.epoch !== epoch) this.faults.push('begun before it was saved');
    if (!this.wanted.has(name) && this.rows.get(name)?.wanted !== 'up')
      this.faults.push(`${name} was begun though nobody wants it`);
    this.begun.set(name, epoch);
    this.running.set(name, epoch);
  }

  /** Stage by stage; the first part is bringing the slices there. */
  #load(row: WantedDeployment, i: number): void {
    const { name, epoch } = row;
    if (this.running.get(name) !== epoch) return;
    if (this.state.deployments.get(name)?.phase.type === 'ending') return;
    const placed = i === 0 ? { ...row, placement: sent(row.placement) } : row;
    if (i === 0) this.feed({ type: 'placed', name, epoch, placement: placed.placement });
    const stage = placed.placement.stages[i];
    if (stage === undefined) {
      this.feed({ type: 'ready', name, epoch });
      return;
    }
    const node = this.nodes.get(stage.node);
    if (node?.up !== true) {
      this.#fails(name, epoch, 'way');
      return;
    }
    if ((node.parts.get(name)?.epoch ?? 0) > epoch) this.faults.push('an older epoch was loaded');
    node.parts.set(name, loadedPart(placed, i));
    this.loads.push(`${name} ${epoch} ${stage.node}`);
    this.#later(() => this.#load(placed, i + 1));
  }

  /** Only what is gone is loaded, one stage after the other; then all are connected. */
  #mend(row: WantedDeployment, found: FoundParts, done: number): void {
    const { name, epoch } = row;
    if (this.running.get(name) !== epoch) return;
    if (this.state.deployments.get(name)?.phase.type === 'ending') return;
    const i = found.missing[done];
    if (i === undefined) {
      this.#attached(row);
      return;
    }
    const stage = row.placement.stages[i];
    const node = this.nodes.get(stage?.node ?? '');
    if (stage === undefined || node?.up !== true) {
      this.#fails(name, epoch, 'way');
      return;
    }
    const there = node.parts.get(name);
    if (there?.stage !== undefined && there.epoch >= epoch)
      this.faults.push(`stage ${i} of ${name} was loaded although it runs`);
    node.parts.set(name, loadedPart(row, i));
    this.loads.push(`${name} ${epoch} ${stage.node}`);
    this.#later(() => this.#mend(row, found, done + 1));
  }

  #attached(row: WantedDeployment): void {
    const { name, epoch } = row;
    if (this.running.get(name) !== epoch) return;
    if (this.state.deployments.get(name)?.phase.type === 'ending') return;
    const whole = row.placement.stages.every(({ node }) => {
      const there = this.nodes.get(node);
      return there?.up === true && there.parts.get(name)?.epoch === epoch;
    });
    if (whole) this.feed({ type: 'ready', name, epoch });
    else this.#fails(name, epoch, 'way');
  }
}
