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

const HEADER_BYTES = 48;
const OP_BYTES = 20;
const SPAN_BYTES = 12;
const TIMING_BYTES = 8;
const OUTPUT_BYTES = 20;

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

const OP_CODES = { open: 1, remove: 2, copy: 3, close: 4 } as const;

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

const SPAN_FLAGS = { sample: 1, logits: 2, replay: 4 } as const;

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

const OUTPUT_FINISH = ['none', 'stop', 'eog'] as const;

export interface ResultFrame {
  readonly kind: 'result';
  readonly epoch: number;
  readonly step: number;
  readonly timings: readonly StageTiming[];
  readonly outputs: readonly StepOutput[];
}

export type Frame = StepFrame | ResultFrame;

const pad4 = (n: number): number => (n + 3) & ~3;

function bad(what: string): MinikeepError {
  return new MinikeepError('frame.malformed', `a data-plane frame is malformed: ${what}`, {
    next: 'The sender runs another version or is faulty: compare versions with `minikeep nodes`, then restart the deployment.',
  });
}

function opBytes(op: SequenceOp): number {
  return OP_BYTES + (op.op === 'open' ? pad4(op.sampling.byteLength) : 0);
}

/** Bytes that `encodeFrame` will produce. */
export function frameBytes(frame: Frame): number {
  let total = HEADER_BYTES + frame.timings.length * TIMING_BYTES;
  if (frame.kind === 'step') {
    for (const op of frame.ops) total += opBytes(op);
    return (
      total +
      frame.spans.length * SPAN_BYTES +
      frame.tokens.byteLength +
      pad4(frame.rows.bytes.byteLength)
    );
  }
  for (const o of frame.outputs)
    total += OUTPUT_BYTES + pad4(o.text.byteLength) + o.logits.byteLength;
  return total;
}

/** Encodes a frame. Throws `frame.malformed` if it breaks a limit, so that nothing unsendable is ever queued. */
export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const size = frameBytes(frame);
  if (size > FRAME_BYTES_MAX)
    throw bad(`${size} bytes are more than the limit of ${FRAME_BYTES_MAX}`);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint8(4, FRAME_VERSION);
  view.setUint8(5, frame.kind === 'step' ? 1 : 2);
  view.setUint32(8, frame.epoch, true);
  view.setUint32(20, frame.timings.length, true);
  view.setFloat64(24, frame.step, true);
  let at = HEADER_BYTES;
  if (frame.kind === 'step') {
    view.setUint16(6, frame.rows.type, true);
    view.setUint32(12, frame.ops.length, true);
    view.setUint32(16, frame.spans.length, true);
    view.setUint32(32, frame.tokens.length, true);
    view.setUint32(36, frame.rows.nEmbd, true);
    for (const op of frame.ops) {
      view.setUint8(at, OP_CODES[op.op]);
      view.setUint16(at + 2, op.seq, true);
      if (op.op === 'copy') view.setUint16(at + 4, op.source, true);
      if (op.op === 'copy' || op.op === 'remove') {
        view.setInt32(at + 8, op.p0, true);
        view.setInt32(at + 12, op.p1, true);
      }
      if (op.op === 'open') {
        view.setUint32(at + 16, op.sampling.byteLength, true);
        bytes.set(op.sampling, at + OP_BYTES);
      }
      at += opBytes(op);
    }
    for (const span of frame.spans) {
      const flags =
        (span.sample ? SPAN_FLAGS.sample : 0) |
        (span.logits ? SPAN_FLAGS.logits : 0) |
        (span.replay ? SPAN_FLAGS.replay : 0);
      view.setUint16(at, span.seq, true);
      view.setUint16(at + 2, flags, true);
      view.setInt32(at + 4, span.position, true);
      view.setUint32(at + 8, span.count, true);
      at += SPAN_BYTES;
    }
    bytes.set(asBytes(frame.tokens), at);
    at += frame.tokens.byteLength;
  }
  for (const t of frame.timings) {
    view.setUint32(at, clampU32(t.computeMicros), true);
    view.setUint32(at + 4, clampU32(t.waitMicros), true);
    at += TIMING_BYTES;
  }
  if (frame.kind === 'step') {
    bytes.set(frame.rows.bytes, at);
    return bytes;
  }
  view.setUint32(40, frame.outputs.length, true);
  for (const o of frame.outputs) {
    view.setUint16(at, o.seq, true);
    view.setUint16(at + 2, OUTPUT_FINISH.indexOf(o.finish), true);
    view.setInt32(at + 4, o.token, true);
    view.setInt32(at + 8, o.position, true);
    view.setUint32(at + 12, o.text.byteLength, true);
    view.setUint32(at + 16, o.logits.length, true);
    at += OUTPUT_BYTES;
    bytes.set(o.text, at);
    at += pad4(o.text.byteLength);
    bytes.set(asBytes(o.logits), at);
    at += o.logits.byteLength;
  }
  return bytes;
}

/**
 * Decodes and checks a frame. The returned `rows.bytes`, `text` and `sampling` are views into `bytes`; `tokens` and
 * `logits` are copies. Throws `frame.malformed`, never anything else.
 */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.byteLength < HEADER_BYTES) throw bad('shorter than its header');
  if (bytes.byteLength > FRAME_BYTES_MAX) throw bad('larger than the limit');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== FRAME_MAGIC) throw bad('wrong magic');
  if (view.getUint8(4) !== FRAME_VERSION) throw bad(`version ${view.getUint8(4)}`);
  const kind = view.getUint8(5);
  const epoch = view.getUint32(8, true);
  const step = view.getFloat64(24, true);
  if (!Number.isSafeInteger(step) || step < 0) throw bad('step id');
  if (view.getUint32(44, true) !== 0) throw bad('reserved field');
  const nTimings = limited(view.getUint32(20, true), FRAME_TIMINGS_MAX, 'timings');
  const cursor = new Cursor(bytes, view, HEADER_BYTES);
  if (kind === 1) {
    const rowsType = view.getUint16(6, true);
    if (rowsType > 2) throw bad('rows type');
    const nOps = limited(view.getUint32(12, true), FRAME_OPS_MAX, 'operations');
    const nSpans = limited(view.getUint32(16, true), FRAME_SPANS_MAX, 'spans');
    const nTokens = limited(view.getUint32(32, true), FRAME_TOKENS_MAX, 'tokens');
    const nEmbd = limited(view.getUint32(36, true), FRAME_EMBD_MAX, 'embedding size');
    if (view.getUint32(40, true) !== 0) throw bad('outputs in a step');
    const ops: SequenceOp[] = [];
    for (let i = 0; i < nOps; i++) ops.push(readOp(cursor));
    const spans: Span[] = [];
    let total = 0;
    for (let i = 0; i < nSpans; i++) {
      const span = readSpan(cursor);
      total += span.count;
      spans.push(span);
    }
    if (total !== nTokens) throw bad(`spans hold ${total} tokens, the header says ${nTokens}`);
    const tokens = new Int32Array(nTokens);
    asBytes(tokens).set(cursor.take(nTokens * 4));
    const timings = readTimings(cursor, nTimings);
    const width = rowsType === ROWS.f32 ? 4 : rowsType === ROWS.f16 ? 2 : 0;
    if (width === 0 && nEmbd !== 0) throw bad('embedding size without rows');
    const rowBytes = nTokens * nEmbd * width;
    if (rowBytes > FRAME_BYTES_MAX) throw bad('rows larger than the limit');
    const rows = cursor.take(rowBytes);
    cursor.end(rowBytes);
    return {
      kind: 'step',
      epoch,
      step,
      ops,
      spans,
      tokens,
      timings,
      rows: { type: rowsType as RowsType, nEmbd, bytes: rows },
    };
  }
  if (kind !== 2) throw bad(`kind ${kind}`);
  if (view.getUint16(6, true) !== 0 || view.getUint32(12, true) !== 0)
    throw bad('a result with rows');
  if (
    view.getUint32(16, true) !== 0 ||
    view.getUint32(32, true) !== 0 ||
    view.getUint32(36, true) !== 0
  )
    throw bad('a result with spans');
  const nOutputs = limited(view.getUint32(40, true), FRAME_OUTPUTS_MAX, 'outputs');
  const timings = readTimings(cursor, nTimings);
  const outputs: StepOutput[] = [];
  for (let i = 0; i < nOutputs; i++) outputs.push(readOutput(cursor));
  cursor.end(0);
  return { kind: 'result', epoch, step, timings, outputs };
}

/** Reads forward; every take is checked against the end of the frame. */
class Cursor {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  at: number;

  constructor(bytes: Uint8Array, view: DataView, at: number) {
    this.bytes = bytes;
    this.view = view;
    this.at = at;
  }

  take(length: number): Uint8Array {
    const end = this.at + length;
    if (end > this.bytes.byteLength) throw bad('cut short');
    const part = this.bytes.subarray(this.at, end);
    this.at = end;
    return part;
  }

  /** Skips `length` bytes of a fixed record and returns where it began. */
  record(length: number): number {
    const at = this.at;
    this.take(length);
    return at;
  }

  /** The frame must end here, but for the padding of a last section of `lastBytes` bytes. */
  end(lastBytes: number): void {
    if (this.at + (pad4(lastBytes) - lastBytes) !== this.bytes.byteLength)
      throw bad('bytes left over');
  }
}

function readOp(c: Cursor): SequenceOp {
  const at = c.record(OP_BYTES);
  const v = c.view;
  const code = v.getUint8(at);
  const seq = sequence(v.getUint16(at + 2, true));
  const p0 = v.getInt32(at + 8, true);
  const p1 = v.getInt32(at + 12, true);
  const blobLength = limited(v.getUint32(at + 16, true), FRAME_BLOB_BYTES_MAX, 'sampling bytes');
  const blob = c.take(pad4(blobLength)).subarray(0, blobLength);
  if (code === OP_CODES.open) return { op: 'open', seq, sampling: blob };
  if (blobLength !== 0) throw bad('a blob on the wrong operation');
  if (code === OP_CODES.close) return { op: 'close', seq };
  if (p0 < 0 || p1 < -1 || (p1 !== -1 && p1 < p0)) throw bad('range of an operation');
  if (code === OP_CODES.remove) return { op: 'remove', seq, p0, p1 };
  if (code === OP_CODES.copy)
    return { op: 'copy', seq, source: sequence(v.getUint16(at + 4, true)), p0, p1 };
  throw bad(`operation ${code}`);
}

function readSpan(c: Cursor): Span {
  const at = c.record(SPAN_BYTES);
  const flags = c.view.getUint16(at + 2, true);
  if (flags > 7) throw bad('span flags');
  const position = c.view.getInt32(at + 4, true);
  if (position < 0) throw bad('negative position');
  const count = limited(c.view.getUint32(at + 8, true), FRAME_TOKENS_MAX, 'tokens of a span');
  if (count === 0) throw bad('empty span');
  return {
    seq: sequence(c.view.getUint16(at, true)),
    position,
    count,
    sample: (flags & SPAN_FLAGS.sample) !== 0,
    logits: (flags & SPAN_FLAGS.logits) !== 0,
    replay: (flags & SPAN_FLAGS.replay) !== 0,
  };
}

function readTimings(c: Cursor, n: number): StageTiming[] {
  const timings: StageTiming[] = [];
  for (let i = 0; i < n; i++) {
    const at = c.record(TIMING_BYTES);
    timings.push({
      computeMicros: c.view.getUint32(at, true),
      waitMicros: c.view.getUint32(at + 4, true),
    });
  }
  return timings;
}

function readOutput(c: Cursor): StepOutput {
  const at = c.record(OUTPUT_BYTES);
  const finish = OUTPUT_FINISH[c.view.getUint16(at + 2, true)];
  if (finish === undefined) throw bad('finish reason');
  const textBytes = limited(c.view.getUint32(at + 12, true), FRAME_TEXT_BYTES_MAX, 'text bytes');
  const nLogits = limited(c.view.getUint32(at + 16, true), FRAME_LOGITS_MAX, 'logits');
  const token = c.view.getInt32(at + 4, true);
  if (token < -1) throw bad('token');
  const position = c.view.getInt32(at + 8, true);
  if (position < 0) throw bad('negative position');
  const text = c.take(pad4(textBytes)).subarray(0, textBytes);
  const logits = new Float32Array(nLogits);
  asBytes(logits).set(c.take(nLogits * 4));
  return { seq: sequence(c.view.getUint16(at, true)), token, position, finish, text, logits };
}

function limited(value: number, max: number, what: string): number {
  if (value > max) throw bad(`${value} ${what}, the limit is ${max}`);
  return value;
}

function sequence(seq: number): number {
  if (seq >= SEQUENCES_MAX) throw bad(`sequence ${seq}`);
  return seq;
}

const clampU32 = (n: number): number => Math.max(0, Math.min(0xffffffff, Math.round(n)));

const asBytes = (a: Int32Array | Float32Array): Uint8Array =>
  new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
