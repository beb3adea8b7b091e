/** Reads a data-plane frame and trusts nothing in it; the layout is in frame.ts. */
import {
  FRAME_MAGIC,
  FRAME_VERSION,
  FRAME_BYTES_MAX,
  FRAME_OPS_MAX,
  FRAME_SPANS_MAX,
  FRAME_TOKENS_MAX,
  FRAME_TIMINGS_MAX,
  FRAME_OUTPUTS_MAX,
  FRAME_BLOB_BYTES_MAX,
  FRAME_TEXT_BYTES_MAX,
  FRAME_EMBD_MAX,
  FRAME_LOGITS_MAX,
  SEQUENCES_MAX,
  ROWS,
  OP_CODES,
  SPAN_FLAGS,
  OUTPUT_FINISH,
  FRAME_LAYOUT,
  malformedFrame,
  pad4,
  asBytes,
  type RowsType,
  type SequenceOp,
  type Span,
  type StageTiming,
  type StepOutput,
  type Frame,
} from './frame.ts';

/**
 * Decodes and checks a frame. The returned `rows.bytes`, `text` and `sampling` are views into `bytes`; `tokens` and
 * `logits` are copies. Throws `frame.malformed`, never anything else.
 */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes.byteLength < FRAME_LAYOUT.header) throw malformedFrame('shorter than its header');
  if (bytes.byteLength > FRAME_BYTES_MAX) throw malformedFrame('larger than the limit');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== FRAME_MAGIC) throw malformedFrame('wrong magic');
  if (view.getUint8(4) !== FRAME_VERSION) throw malformedFrame(`version ${view.getUint8(4)}`);
  const kind = view.getUint8(5);
  const epoch = view.getUint32(8, true);
  const step = view.getFloat64(24, true);
  if (!Number.isSafeInteger(step) || step < 0) throw malformedFrame('step id');
  if (view.getUint32(44, true) !== 0) throw malformedFrame('reserved field');
  const nTimings = limited(view.getUint32(20, true), FRAME_TIMINGS_MAX, 'timings');
  const cursor = new Cursor(bytes, view, FRAME_LAYOUT.header);
  if (kind === 1) {
    const rowsType = view.getUint16(6, true);
    if (rowsType > 2) throw malformedFrame('rows type');
    const nOps = limited(view.getUint32(12, true), FRAME_OPS_MAX, 'operations');
    const nSpans = limited(view.getUint32(16, true), FRAME_SPANS_MAX, 'spans');
    const nTokens = limited(view.getUint32(32, true), FRAME_TOKENS_MAX, 'tokens');
    const nEmbd = limited(view.getUint32(36, true), FRAME_EMBD_MAX, 'embedding size');
    if (view.getUint32(40, true) !== 0) throw malformedFrame('outputs in a step');
    const ops: SequenceOp[] = [];
    for (let i = 0; i < nOps; i++) ops.push(readOp(cursor));
    const spans: Span[] = [];
    let total = 0;
    for (let i = 0; i < nSpans; i++) {
      const span = readSpan(cursor);
      total += span.count;
      spans.push(span);
    }
    if (total !== nTokens)
      throw malformedFrame(`spans hold ${total} tokens, the header says ${nTokens}`);
    const tokens = new Int32Array(nTokens);
    asBytes(tokens).set(cursor.take(nTokens * 4));
    const timings = readTimings(cursor, nTimings);
    const width = rowsType === ROWS.f32 ? 4 : rowsType === ROWS.f16 ? 2 : 0;
    if (width === 0 && nEmbd !== 0) throw malformedFrame('embedding size without rows');
    const rowBytes = nTokens * nEmbd * width;
    if (rowBytes > FRAME_BYTES_MAX) throw malformedFrame('rows larger than the limit');
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
  if (kind !== 2) throw malformedFrame(`kind ${kind}`);
  if (view.getUint16(6, true) !== 0 || view.getUint32(12, true) !== 0)
    throw malformedFrame('a result with rows');
  if (
    view.getUint32(16, true) !== 0 ||
    view.getUint32(32, true) !== 0 ||
    view.getUint32(36, true) !== 0
  )
    throw malformedFrame('a result with spans');
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
    if (end > this.bytes.byteLength) throw malformedFrame('cut short');
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
      throw malformedFrame('bytes left over');
  }
}

function readOp(c: Cursor): SequenceOp {
  const at = c.record(FRAME_LAYOUT.op);
  const v = c.view;
  const code = v.getUint8(at);
  const seq = sequence(v.getUint16(at + 2, true));
  const p0 = v.getInt32(at + 8, true);
  const p1 = v.getInt32(at + 12, true);
  const blobLength = limited(v.getUint32(at + 16, true), FRAME_BLOB_BYTES_MAX, 'sampling bytes');
  const blob = c.take(pad4(blobLength)).subarray(0, blobLength);
  if (code === OP_CODES.open) return { op: 'open', seq, sampling: blob };
  if (blobLength !== 0) throw malformedFrame('a blob on the wrong operation');
  if (code === OP_CODES.close) return { op: 'close', seq };
  if (p0 < 0 || p1 < -1 || (p1 !== -1 && p1 < p0)) throw malformedFrame('range of an operation');
  if (code === OP_CODES.remove) return { op: 'remove', seq, p0, p1 };
  if (code === OP_CODES.copy)
    return { op: 'copy', seq, source: sequence(v.getUint16(at + 4, true)), p0, p1 };
  throw malformedFrame(`operation ${code}`);
}

function readSpan(c: Cursor): Span {
  const at = c.record(FRAME_LAYOUT.span);
  const flags = c.view.getUint16(at + 2, true);
  if (flags > 7) throw malformedFrame('span flags');
  const position = c.view.getInt32(at + 4, true);
  if (position < 0) throw malformedFrame('negative position');
  const count = limited(c.view.getUint32(at + 8, true), FRAME_TOKENS_MAX, 'tokens of a span');
  if (count === 0) throw malformedFrame('empty span');
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
    const at = c.record(FRAME_LAYOUT.timing);
    timings.push({
      computeMicros: c.view.getUint32(at, true),
      waitMicros: c.view.getUint32(at + 4, true),
    });
  }
  return timings;
}

function readOutput(c: Cursor): StepOutput {
  const at = c.record(FRAME_LAYOUT.output);
  const finish = OUTPUT_FINISH[c.view.getUint16(at + 2, true)];
  if (finish === undefined) throw malformedFrame('finish reason');
  const textBytes = limited(c.view.getUint32(at + 12, true), FRAME_TEXT_BYTES_MAX, 'text bytes');
  const nLogits = limited(c.view.getUint32(at + 16, true), FRAME_LOGITS_MAX, 'logits');
  const token = c.view.getInt32(at + 4, true);
  if (token < -1) throw malformedFrame('token');
  const position = c.view.getInt32(at + 8, true);
  if (position < 0) throw malformedFrame('negative position');
  const text = c.take(pad4(textBytes)).subarray(0, textBytes);
  const logits = new Float32Array(nLogits);
  asBytes(logits).set(c.take(nLogits * 4));
  return { seq: sequence(c.view.getUint16(at, true)), token, position, finish, text, logits };
}

function limited(value: number, max: number, what: string): number {
  if (value > max) throw malformedFrame(`${value} ${what}, the limit is ${max}`);
  return value;
}

function sequence(seq: number): number {
  if (seq >= SEQUENCES_MAX) throw malformedFrame(`sequence ${seq}`);
  return seq;
}
