/** Writes a data-plane frame; the layout is in frame.ts. */
import {
  FRAME_MAGIC,
  FRAME_VERSION,
  FRAME_BYTES_MAX,
  OP_CODES,
  SPAN_FLAGS,
  OUTPUT_FINISH,
  FRAME_LAYOUT,
  malformedFrame,
  pad4,
  asBytes,
  type SequenceOp,
  type Frame,
} from './frame.ts';

function opBytes(op: SequenceOp): number {
  return FRAME_LAYOUT.op + (op.op === 'open' ? pad4(op.sampling.byteLength) : 0);
}

/** Bytes that `encodeFrame` will produce. */
export function frameBytes(frame: Frame): number {
  let total = FRAME_LAYOUT.header + frame.timings.length * FRAME_LAYOUT.timing;
  if (frame.kind === 'step') {
    for (const op of frame.ops) total += opBytes(op);
    return (
      total +
      frame.spans.length * FRAME_LAYOUT.span +
      frame.tokens.byteLength +
      pad4(frame.rows.bytes.byteLength)
    );
  }
  for (const o of frame.outputs)
    total += FRAME_LAYOUT.output + pad4(o.text.byteLength) + o.logits.byteLength;
  return total;
}

/** Encodes a frame. Throws `frame.malformed` if it breaks a limit, so that nothing unsendable is ever queued. */
export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const size = frameBytes(frame);
  if (size > FRAME_BYTES_MAX)
    throw malformedFrame(`${size} bytes are more than the limit of ${FRAME_BYTES_MAX}`);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint8(4, FRAME_VERSION);
  view.setUint8(5, frame.kind === 'step' ? 1 : 2);
  view.setUint32(8, frame.epoch, true);
  view.setUint32(20, frame.timings.length, true);
  view.setFloat64(24, frame.step, true);
  let at = FRAME_LAYOUT.header;
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
        bytes.set(op.sampling, at + FRAME_LAYOUT.op);
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
      at += FRAME_LAYOUT.span;
    }
    bytes.set(asBytes(frame.tokens), at);
    at += frame.tokens.byteLength;
  }
  for (const t of frame.timings) {
    view.setUint32(at, clampU32(t.computeMicros), true);
    view.setUint32(at + 4, clampU32(t.waitMicros), true);
    at += FRAME_LAYOUT.timing;
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
    at += FRAME_LAYOUT.output;
    bytes.set(o.text, at);
    at += pad4(o.text.byteLength);
    bytes.set(asBytes(o.logits), at);
    at += o.logits.byteLength;
  }
  return bytes;
}

const clampU32 = (n: number): number => Math.max(0, Math.min(0xffffffff, Math.round(n)));
