/**
 * The data plane's frame: one step on its way through the stages, or its result.
 *
 * Why not protobuf: every engine decodes and encodes a frame per token, with V8's JIT switched off
 * (the sandbox forbids executable memory), so a fixed layout read with a handful of DataView calls matters.
 * On the wire a frame is the `payload` of `minikeep.v1.Frame`; agents pass it on without looking inside.
 *
 * Layout, little-endian. Offsets are from the frame's first byte; every section starts at a multiple of 4.
 *
 *   header, 48 bytes
 *     0 u32 magic 'MKF1'    4 u8 version   5 u8 kind (1 step, 2 result)   6 u16 rows (0 none, 1 f32, 2 f16)
 *     8 u32 epoch          12 u32 n_ops   16 u32 n_spans                 20 u32 n_timings
 *    24 f64 step id        32 u32 n_tokens 36 u32 n_embd                 40 u32 n_outputs   44 u32 zero
 *   ops       n_ops × (u8 code, u8 0, u16 seq, u16 source, u16 0, i32 p0, i32 p1, u32 blob length, blob padded to 4)
 *   spans     n_spans × (u16 seq, u16 flags, i32 first position, u32 count)
 *   tokens    n_tokens × i32, span after span. Every stage gets them: the last one's sampler needs the history.
 *   timings   n_timings × (u32 compute µs, u32 wait µs), one per stage passed
 *   outputs   n_outputs × (u16 seq, u16 flags, i32 token, i32 position, u32 text length, u32 n_logits,
 *             text padded to 4, n_logits × f32)            (results only)
 *   rows      n_tokens × n_embd values in batch order      (steps only)
 *
 * Both ends treat a frame as untrusted: `decodeFrame` checks every count against the limits and the length.
 */
import { MinikeepError } from './errors.ts';

export const FRAME_MAGIC = 0x31464b4d; // 'MKF1'
export const FRAME_VERSION = 1;
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;
export const FRAME_OPS_MAX = 512;
export const FRAME_SPANS_MAX = 512;
export const FRAME_TOKENS_MAX = 8192;
export const FRAME_TIMINGS_MAX = 256;
export const FRAME_OUTPUTS_MAX = 8192;
export const FRAME_BLOB_BYTES_MAX = 1024 * 1024;
export const FRAME_TEXT_BYTES_MAX = 64 * 1024;
export const FRAME_EMBD_MAX = 65536;
export const FRAME_LOGITS_MAX = 1024 * 1024;
export const SEQUENCES_MAX = 1024;

/** Sizes of the fixed records. */
export const FRAME_LAYOUT = { header: 48, op: 20, span: 12, timing: 8, output: 20 } as const;

export const ROWS = { none: 0, f32: 1, f16: 2 } as const;
export type RowsType = (typeof ROWS)[keyof typeof ROWS];

/** A change to one sequence's cache, done by every stage before it computes the spans. */
export type SequenceOp =
  /** Starts a sequence in an empty slot. `sampling` is opaque here (JSON of SamplingParams); only the last stage reads it. */
  | { readonly op: 'open'; readonly seq: number; readonly sampling: Uint8Array }
  /** Forgets positions p0 <= p < p1 (p1 -1: to the end). */
  | { readonly op: 'remove'; readonly seq: number; readonly p0: number; readonly p1: number }
  /** Copies positions p0 <= p < p1 of `source` into `seq`. */
  | {
      readonly op: 'copy';
      readonly seq: number;
      readonly source: number;
      readonly p0: number;
      readonly p1: number;
    }
  /** Ends a sequence and empties its slot. */
  | { readonly op: 'close'; readonly seq: number };

export const OP_CODES = { open: 1, remove: 2, copy: 3, close: 4 } as const;

/** Consecutive positions of one sequence inside a step. */
export interface Span {
  readonly seq: number;
  readonly position: number;
  readonly count: number;
  /** Sample a token after the span's last row (last stage). */
  readonly sample: boolean;
  /** Return the logits of every row of the span (checks only: large). */
  readonly logits: boolean;
  /** These tokens were generated before (recovery, replay): the sampler accepts them as its own, the text is not sent again. */
  readonly replay: boolean;
}

export const SPAN_FLAGS = { sample: 1, logits: 2, replay: 4 } as const;

/** What one stage needed for one step, in microseconds. */
export interface StageTiming {
  readonly computeMicros: number;
  /** Time the engine sat idle between its previous step and this one. */
  readonly waitMicros: number;
}

export interface StepFrame {
  readonly kind: 'step';
  readonly epoch: number;
  readonly step: number;
  readonly ops: readonly SequenceOp[];
  readonly spans: readonly Span[];
  /** Token ids, span after span; length is the sum of the spans' counts. */
  readonly tokens: Int32Array;
  readonly timings: readonly StageTiming[];
  /** Hidden rows, [n_tokens, n_embd], or nothing on the way to the first stage. */
  readonly rows: { readonly type: RowsType; readonly nEmbd: number; readonly bytes: Uint8Array };
}

export type FinishReason = 'none' | 'stop' | 'eog';

/** One sampled token, or the logits of one row. */
export interface StepOutput {
  readonly seq: number;
  /** The sampled id; -1 when only logits were asked for. */
  readonly token: number;
  /** The position of the row that this output belongs to. */
  readonly position: number;
  readonly finish: FinishReason;
  /** Whole characters that are safe to show: never a broken code point, never a part of a stop string. */
  readonly text: Uint8Array;
  readonly logits: Float32Array;
}

export const OUTPUT_FINISH = ['none', 'stop', 'eog'] as const;

export interface ResultFrame {
  readonly kind: 'result';
  readonly epoch: number;
  readonly step: number;
  readonly timings: readonly StageTiming[];
  readonly outputs: readonly StepOutput[];
}

export type Frame = StepFrame | ResultFrame;

/** The error of both directions: what is wrong with the frame. */
export function malformedFrame(what: string): MinikeepError {
  return new MinikeepError('frame.malformed', `a data-plane frame is malformed: ${what}`, {
    next: 'The sender runs another version or is faulty: compare versions with `minikeep nodes`, then restart the deployment.',
  });
}

export const pad4 = (n: number): number => (n + 3) & ~3;

export const asBytes = (a: Int32Array | Float32Array): Uint8Array =>
  new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
