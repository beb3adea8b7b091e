/** The scheduler's memory. Only step.ts and its helpers write to it. */
import type { SequenceOp } from '@minikeep/protocol';
import type { RequestSummary, SchedulerConfig, SchedulerRequest } from './types.ts';

export interface ActiveRequest {
  readonly request: SchedulerRequest;
  readonly slot: number;
  readonly submittedMs: number;
  readonly startedMs: number;
  /** Prompt tokens put into steps. */
  promptSent: number;
  /** Prompt tokens whose step came back. */
  promptDone: number;
  /** The token to compute next, once sampled and until put into a step. */
  nextToken: number | undefined;
  completionTokens: number;
  firstTokenMs: number;
  lastTokenMs: number;
  /** Step in which it was last served; prompts take turns by it. */
  servedStep: number;
  readonly stages: { computeMicros: number; waitMicros: number }[];
}

/**
 * An answer that was cut at its length. Its last token is handed on when its sequence was closed: that lets out text
 * that was held back, which belongs to it.
 */
export interface EndingRequest {
  readonly id: number;
  readonly slot: number;
  readonly token: number;
  readonly text: Uint8Array;
  readonly summary: RequestSummary;
}

/** One span of a step in flight, and whose it is. */
export interface SpanInFlight {
  readonly id: number;
  readonly slot: number;
  readonly count: number;
  readonly isPrompt: boolean;
  readonly sample: boolean;
}

export interface StepInFlight {
  readonly step: number;
  readonly spans: readonly SpanInFlight[];
  readonly closes: readonly SequenceOp[];
  /** Their sequences are closed by this step. */
  readonly endings: readonly EndingRequest[];
  /** It closes every sequence, at the beginning. */
  readonly sweeps: boolean;
  /** 0: it only closes. */
  readonly rows: number;
  readonly sentMs: number;
}

export interface SchedulerState {
  readonly config: SchedulerConfig;
  nextStep: number;
  readonly queue: { readonly request: SchedulerRequest; readonly submittedMs: number }[];
  /** By request id, in order of start. */
  readonly active: Map<number, ActiveRequest>;
  readonly freeSlots: number[];
  /** Closes of ended sequences, to go out before anything else of the next step. */
  readonly pendingOps: SequenceOp[];
  /** Whose closes are among the pending ones. */
  readonly endings: EndingRequest[];
  /** The next step closes every sequence, and goes even if it does nothing else. */
  sweeping: boolean;
  /** In order of sending, which is the order of return. */
  readonly inFlight: StepInFlight[];
  /** When a result last came, or the pipeline last went from empty to busy. */
  progressMs: number;
  /** When the stages were last looked at and found to be computing. */
  lookedMs: number;
  /** Slowest time of a step per row and at all, decaying; what silence is measured by. 0: not known yet. */
  slowestStepMs: number;
  slowestRowMs: number;
  stalledReported: boolean;
  failed: boolean;
}

export function newScheduler(config: SchedulerConfig): SchedulerState {
  return {
    config,
    nextStep: 1,
    queue: [],
    active: new Map(),
    freeSlots: Array.from({ length: config.nSeqMax }, (_, i) => i),
    pendingOps: [],
    endings: [],
    sweeping: false,
    inFlight: [],
    progressMs: 0,
    lookedMs: 0,
    slowestStepMs: 0,
    slowestRowMs: 0,
    stalledReported: false,
    failed: false,
  };
}
