/** Drives a scheduler in tests. */
import { newScheduler, type SchedulerState } from '../src/scheduler/state.ts';
import { step } from '../src/scheduler/step.ts';
import type {
  SchedulerConfig,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerRequest,
} from '../src/scheduler/types.ts';
import { SimulatedPipeline } from './simulated-pipeline.ts';

export const CONFIG: SchedulerConfig = {
  stages: 3,
  nBatch: 8,
  nSeqMax: 4,
  contextTokens: 64,
  exact: true,
  queueMax: 5,
};

/** Drives a scheduler and its pipeline; collects what became of each request. */
export class Driver {
  readonly state: SchedulerState;
  readonly pipeline: SimulatedPipeline;
  nowMs = 0;
  readonly tokens = new Map<number, number[]>();
  readonly ended = new Map<number, string>();
  readonly effects: SchedulerEffect[] = [];

  constructor(config: SchedulerConfig) {
    this.state = newScheduler(config);
    this.pipeline = new SimulatedPipeline(config);
  }

  feed(event: SchedulerEvent): void {
    for (const effect of step(this.state, event).effects) {
      this.effects.push(effect);
      if (effect.type === 'send') this.pipeline.send(effect);
      if (effect.type === 'token' && effect.counts)
        this.tokens.set(effect.id, [...(this.tokens.get(effect.id) ?? []), effect.token]);
      if (effect.type === 'done') this.end(effect.id, effect.finish);
      if (effect.type === 'failed') this.end(effect.id, effect.error.code);
    }
  }

  end(id: number, how: string): void {
    if (this.ended.has(id)) throw new Error(`request ${id} ended twice`);
    this.ended.set(id, how);
  }

  submit(id: number, prompt: readonly number[], maxTokens: number): SchedulerRequest {
    const request = { id, prompt: Int32Array.from(prompt), maxTokens, sampling: new Uint8Array() };
    this.feed({ type: 'submit', request, nowMs: this.nowMs });
    return request;
  }

  /** The oldest step comes back. */
  back(): boolean {
    const oldest = this.pipeline.inFlight.shift();
    if (oldest === undefined) return false;
    this.nowMs += 10;
    this.feed({
      type: 'result',
      step: oldest.step,
      outputs: oldest.outputs,
      timings: Array.from({ length: this.state.config.stages }, () => ({
        computeMicros: 1000,
        waitMicros: 500,
      })),
      nowMs: this.nowMs,
    });
    return true;
  }

  drain(): void {
    for (let i = 0; this.back(); i++) if (i > 100_000) throw new Error('never ends');
  }
}

export const range = (n: number, from = 1): number[] =>
  Array.from({ length: n }, (_, i) => from + i);
