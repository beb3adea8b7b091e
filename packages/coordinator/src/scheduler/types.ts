/**
 * What goes into the scheduler and what comes out. The scheduler is pure: it owns no clock, no connection and no
 * randomness; times are milliseconds of a monotonic clock that the caller reads.
 */
import type { MinikeepError, SequenceOp, Span, StageTiming, StepOutput } from '@minikeep/protocol';

export interface SchedulerConfig {
  readonly stages: number;
  /** Rows of one step at most. */
  readonly nBatch: number;
  /** Sequence slots. */
  readonly nSeqMax: number;
  /** Positions that one sequence may have. */
  readonly contextTokens: number;
  /** No prompt chunk of a single row (DESIGN, 'Exact or fast'). */
  readonly exact: boolean;
  /** Requests that wait for a slot. */
  readonly queueMax: number;
}

/** One answer to compute. Checked by `checkRequest` before it is submitted. */
export interface SchedulerRequest {
  readonly id: number;
  readonly prompt: Int32Array;
  /** At least 1. */
  readonly maxTokens: number;
  /** Opaque here; goes to the last stage. */
  readonly sampling: Uint8Array;
}

export type SchedulerEvent =
  | { readonly type: 'submit'; readonly request: SchedulerRequest; readonly nowMs: number }
  | { readonly type: 'cancel'; readonly id: number; readonly nowMs: number }
  | {
      readonly type: 'result';
      readonly step: number;
      readonly outputs: readonly StepOutput[];
      readonly timings: readonly StageTiming[];
      readonly nowMs: number;
    }
  /** An engine refused a step and goes on: its sequences end. */
  | {
      readonly type: 'step_failed';
      readonly step: number;
      readonly error: MinikeepError;
      readonly nowMs: number;
    }
  /** Time passes; ask this at least twice a second while steps are in flight. */
  | { readonly type: 'tick'; readonly nowMs: number }
  /** The stages are not new: every sequence is closed before anything else, by a step of its own. */
  | { readonly type: 'sweep'; readonly nowMs: number }
  /** The stages were found to be computing: they are given the same time again. */
  | { readonly type: 'still_working'; readonly nowMs: number }
  /** The pipeline is gone: everything ends with this error. */
  | { readonly type: 'fail'; readonly error: MinikeepError; readonly nowMs: number };

export type SchedulerFinish = 'stop' | 'length';

/** What one stage did for one request, its share of steps that it had with others. */
export interface StageUseSeconds {
  readonly computeSeconds: number;
  readonly waitSeconds: number;
}

export interface RequestSummary {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly queueMs: number;
  /** From the first chunk sent to the first token; -1 when there was none. */
  readonly firstTokenMs: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
  readonly totalMs: number;
  readonly stages: readonly StageUseSeconds[];
}

export type SchedulerEffect =
  | {
      readonly type: 'send';
      readonly step: number;
      readonly ops: readonly SequenceOp[];
      readonly spans: readonly Span[];
      readonly tokens: Int32Array;
    }
  | { readonly type: 'started'; readonly id: number; readonly slot: number }
  | {
      readonly type: 'prefill';
      readonly id: number;
      readonly doneTokens: number;
      readonly totalTokens: number;
    }
  | {
      readonly type: 'token';
      readonly id: number;
      /** False: an end-of-generation token, whose `text` is only what was held back before. */
      readonly counts: boolean;
      readonly token: number;
      readonly text: Uint8Array;
    }
  | {
      readonly type: 'done';
      readonly id: number;
      readonly finish: SchedulerFinish;
      readonly summary: RequestSummary;
    }
  | { readonly type: 'failed'; readonly id: number; readonly error: MinikeepError }
  /** Every stage has closed every sequence. */
  | { readonly type: 'swept' }
  /**
   * Nothing came back for longer than such a step can take: find out which stage holds it. `silentMs` is all the time
   * since the last step came back, however often the stages were looked at meanwhile.
   */
  | { readonly type: 'stalled'; readonly step: number; readonly silentMs: number };
