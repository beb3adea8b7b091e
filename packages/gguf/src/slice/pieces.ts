/**
 * Cuts a run of a slice's segments into pieces. Everything that only this cut has goes into pieces named 'header'; a
 * layer is a piece (or several, if it is very large), so that nodes hold layers by digest whatever slice they came in.
 */
import { PIECE_BYTES_MAX } from '../limits.ts';
import type { PiecePlan, Segment } from './types.ts';

export const segmentBytes = (segment: Segment): number =>
  segment.from === 'memory' ? segment.data.byteLength : segment.bytes;

/** `name` undefined: bytes of this cut alone. `bytesMax` is for tests. */
export function piecesOf(
  name: string | undefined,
  segments: readonly Segment[],
  bytesMax = PIECE_BYTES_MAX,
): PiecePlan[] {
  const total = segments.reduce((sum, segment) => sum + segmentBytes(segment), 0);
  const pieces: PiecePlan[] = [];
  for (let from = 0; from < total; from += bytesMax) {
    const bytes = Math.min(bytesMax, total - from);
    const part = from === 0 ? '' : ` part ${pieces.length + 1}`;
    pieces.push({
      name: `${name ?? 'header'}${part}`,
      shared: name !== undefined,
      bytes,
      segments: rangeOf(segments, from, from + bytes),
    });
  }
  return pieces;
}

/** The segments that hold bytes from <= i < end. */
export function rangeOf(segments: readonly Segment[], from: number, end: number): Segment[] {
  const range: Segment[] = [];
  let at = 0;
  for (const segment of segments) {
    const bytes = segmentBytes(segment);
    const [start, stop] = [Math.max(0, from - at), Math.min(bytes, end - at)];
    at += bytes;
    if (start >= stop) continue;
    if (segment.from === 'memory')
      range.push({ from: 'memory', data: segment.data.subarray(start, stop) });
    else if (segment.from === 'zeros') range.push({ from: 'zeros', bytes: stop - start });
    else range.push({ ...segment, offset: segment.offset + start, bytes: stop - start });
  }
  return range;
}
