/**
 * A pipeline for the scheduler's tests: it checks every step against what real stages would require, and computes each
 * token from everything that the sequence holds, so that a lost, doubled or misplaced token changes all that follow.
 */
import type { SequenceOp, Span, StepOutput } from '@minikeep/protocol';
import type { SchedulerConfig, SchedulerRequest } from '../src/scheduler/types.ts';

export const EOG = 0;
const VOCABULARY = 40;
/** What every sequence lets out when it is closed. */
export const HELD_BACK = new TextEncoder().encode('held back');

/** The model: the next token after these. About one in forty ends the answer. */
export function nextToken(tokens: readonly number[]): number {
  let hash = 2166136261;
  for (const token of tokens) hash = Math.imul(hash ^ (token + 1), 16777619);
  hash ^= hash >>> 15;
  return Math.abs(Math.imul(hash, 2246822519) >>> 3) % VOCABULARY;
}

/** What a request must be answered, computed alone, token after token. */
export function twin(
  request: SchedulerRequest,
  contextTokens: number,
): { tokens: number[]; finish: 'stop' | 'length' } {
  const held = [...request.prompt];
  const tokens: number[] = [];
  for (;;) {
    const token = nextToken(held);
    if (token === EOG) return { tokens, finish: 'stop' };
    tokens.push(token);
    if (tokens.length === request.maxTokens || held.length === contextTokens)
      return { tokens, finish: 'length' };
    held.push(token);
  }
}

export interface SentStep {
  readonly step: number;
  readonly ops: readonly SequenceOp[];
  readonly spans: readonly Span[];
  readonly tokens: Int32Array;
}

export class SimulatedPipeline {
  readonly #config: SchedulerConfig;
  readonly #slots: (number[] | undefined)[];
  readonly inFlight: { readonly step: number; readonly outputs: StepOutput[] }[] = [];
  #lastStep = 0;
  /** Rows of every step, for what a test wants to know about them. */
  readonly rows: number[] = [];

  constructor(config: SchedulerConfig) {
    this.#config = config;
    this.#slots = Array.from({ length: config.nSeqMax });
  }

  /** Takes a step; throws when a real stage could not compute it. */
  send(sent: SentStep): void {
    const check = (ok: boolean, what: string): void => {
      if (!ok) throw new Error(`step ${sent.step}: ${what}`);
    };
    check(sent.step > this.#lastStep, 'number does not grow');
    this.#lastStep = sent.step;
    check(this.inFlight.length < this.#config.stages, 'more steps in flight than stages');
    check(sent.tokens.length <= this.#config.nBatch, 'rows');
    check(sent.tokens.length > 0 || sent.ops.length > 0, 'nothing to do');
    if (sent.tokens.length > 0) this.rows.push(sent.tokens.length);
    const outputs: StepOutput[] = [];
    for (const op of sent.ops) {
      const held = this.#slots[op.seq];
      if (op.op === 'open') {
        check(held === undefined, `opens slot ${op.seq}, which is open`);
        this.#slots[op.seq] = [];
      } else if (op.op === 'close') {
        check(held !== undefined, `closes slot ${op.seq}, which is not open`);
        this.#slots[op.seq] = undefined;
        outputs.push({
          seq: op.seq,
          token: -1,
          position: held?.length ?? 0,
          finish: 'none',
          text: HELD_BACK,
          logits: new Float32Array(),
        });
      } else check(false, `unexpected operation ${op.op}`);
    }
    const seen = new Set<number>();
    let at = 0;
    for (const span of sent.spans) {
      const held = this.#slots[span.seq];
      if (held === undefined) throw new Error(`step ${sent.step}: slot ${span.seq} is not open`);
      check(!seen.has(span.seq), 'two spans of one sequence');
      seen.add(span.seq);
      check(span.position === held.length, `position ${span.position}, held ${held.length}`);
      held.push(...sent.tokens.subarray(at, at + span.count));
      at += span.count;
      check(held.length <= this.#config.contextTokens, 'past the context');
      if (!span.sample) continue;
      const token = nextToken(held);
      outputs.push({
        seq: span.seq,
        token,
        position: held.length - 1,
        finish: token === EOG ? 'eog' : 'none',
        text: new Uint8Array(),
        logits: new Float32Array(),
      });
    }
    check(at === sent.tokens.length, 'tokens left over');
    this.inFlight.push({ step: sent.step, outputs });
  }

  get openSlots(): number {
    return this.#slots.filter((held) => held !== undefined).length;
  }
}
