/** Frames there and back, and 100,000 damaged ones: refused with `frame.malformed`, or read to something whole. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeFrame,
  encodeFrame,
  FRAME_EMBD_MAX,
  frameBytes,
  MinikeepError,
  ROWS,
  SEQUENCES_MAX,
  type Frame,
} from '../src/index.ts';

const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 100_000 : 5_000;
const SEED = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 2 ** 31);

const seq = fc.nat({ max: SEQUENCES_MAX - 1 });
const blob = fc.uint8Array({ maxLength: 30 });
const range = fc
  .tuple(fc.nat({ max: 5000 }), fc.integer({ min: -1, max: 5000 }))
  .filter(([p0, p1]) => p1 === -1 || p1 >= p0);
const op = fc.oneof(
  fc.record({ op: fc.constant('open' as const), seq, sampling: blob }),
  fc.record({ op: fc.constant('close' as const), seq }),
  fc.tuple(seq, range).map(([s, [p0, p1]]) => ({ op: 'remove' as const, seq: s, p0, p1 })),
  fc
    .tuple(seq, seq, range)
    .map(([s, source, [p0, p1]]) => ({ op: 'copy' as const, seq: s, source, p0, p1 })),
);
const span = fc.record({
  seq,
  position: fc.nat({ max: 2 ** 31 - 1 }),
  count: fc.integer({ min: 1, max: 5 }),
  sample: fc.boolean(),
  logits: fc.boolean(),
  replay: fc.boolean(),
});
const timings = fc.array(
  fc.record({ computeMicros: fc.nat(), waitMicros: fc.nat({ max: 0xffff_ffff }) }),
  { maxLength: 4 },
);
const head = { epoch: fc.nat({ max: 0xffff_ffff }), step: fc.maxSafeNat(), timings };

const stepFrame = fc
  .record({
    ...head,
    ops: fc.array(op, { maxLength: 4 }),
    spans: fc.array(span, { maxLength: 4 }),
    type: fc.constantFrom(ROWS.none, ROWS.f32, ROWS.f16),
    nEmbd: fc.integer({ min: 1, max: 6 }),
    token: fc.integer(),
  })
  .map(({ type, nEmbd, token, ...rest }): Frame => {
    const count = rest.spans.reduce((sum, s) => sum + s.count, 0);
    const width = type === ROWS.f32 ? 4 : type === ROWS.f16 ? 2 : 0;
    const bytes = new Uint8Array(count * nEmbd * width).map((_, i) => (i * 31 + token) & 255);
    return {
      kind: 'step',
      ...rest,
      tokens: new Int32Array(count).fill(token),
      rows: { type, nEmbd: width === 0 ? 0 : nEmbd, bytes },
    };
  });
const output = fc.record({
  seq,
  token: fc.integer({ min: -1 }),
  position: fc.nat({ max: 2 ** 31 - 1 }),
  finish: fc.constantFrom('none' as const, 'stop' as const, 'eog' as const),
  text: blob,
  logits: fc.float32Array({ maxLength: 6, noNaN: true }),
});
const resultFrame = fc
  .record({ ...head, outputs: fc.array(output, { maxLength: 4 }) })
  .map((r): Frame => ({ kind: 'result', ...r }));
const anyFrame = fc.oneof(stepFrame, resultFrame);

/** Views into a frame become plain values, so that two frames can be compared. */
const plain = (frame: Frame): unknown =>
  JSON.parse(
    JSON.stringify(frame, (_key, value: unknown) => {
      if (!ArrayBuffer.isView(value)) return value;
      return [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)];
    }),
  );

describe('frame codec', () => {
  it('gives back what went in, at an odd place in memory too', () => {
    fc.assert(
      fc.property(anyFrame, fc.nat({ max: 7 }), (frame, shift) => {
        const bytes = encodeFrame(frame);
        expect(bytes.byteLength).toBe(frameBytes(frame));
        const moved = new Uint8Array(bytes.byteLength + shift);
        moved.set(bytes, shift);
        expect(plain(decodeFrame(moved.subarray(shift)))).toEqual(plain(frame));
      }),
      { numRuns: 1000, seed: SEED },
    );
  });

  it(`refuses or reads ${RUNS} damaged frames, and never anything else (seed ${SEED})`, () => {
    let read = 0;
    let refused = 0;
    const damage = fc.array(
      fc.tuple(
        fc.constantFrom('byte', 'u32', 'cut', 'grow'),
        fc.nat(),
        fc.constantFrom(0, 1, 3, 127, 255, 256, 8193, 65_537, 2 ** 31, 2 ** 32 - 1),
      ),
      { minLength: 1, maxLength: 3 },
    );
    fc.assert(
      fc.property(anyFrame, damage, (frame, changes) => {
        let bytes: Uint8Array = encodeFrame(frame);
        for (const [kind, at, value] of changes) {
          const where = at % Math.max(1, bytes.byteLength);
          if (kind === 'cut') bytes = bytes.slice(0, where);
          else if (kind === 'grow') {
            const larger = new Uint8Array(bytes.byteLength + (value % 64));
            larger.set(bytes);
            bytes = larger;
          } else if (kind === 'byte') bytes[where] = value & 255;
          else if (where + 4 <= bytes.byteLength)
            new DataView(bytes.buffer, bytes.byteOffset).setUint32(where & ~3, value, true);
        }
        try {
          const decoded = decodeFrame(bytes);
          // What was believed must hold together: it can be sent on.
          expect(encodeFrame(decoded).byteLength).toBe(bytes.byteLength);
          read++;
        } catch (thrown) {
          if (!(thrown instanceof MinikeepError) || thrown.code !== 'frame.malformed') throw thrown;
          refused++;
        }
      }),
      { numRuns: RUNS, seed: SEED },
    );
    // Both ways are taken, or this test would say nothing.
    expect(Math.min(read, refused)).toBeGreaterThan(RUNS / 50);
  });

  it('refuses counts that lie, before it makes room for them', () => {
    const bytes = encodeFrame({
      kind: 'step',
      epoch: 1,
      step: 1,
      ops: [],
      spans: [],
      tokens: new Int32Array(),
      timings: [],
      rows: { type: ROWS.f32, nEmbd: 1, bytes: new Uint8Array() },
    });
    for (const offset of [12, 16, 20, 32, 36, 40, 44])
      for (const count of [1, 8193, FRAME_EMBD_MAX + 1, 2 ** 31, 2 ** 32 - 1]) {
        // Rows may have any length when there are none of them.
        if (offset === 36 && count <= FRAME_EMBD_MAX) continue;
        const wrong = bytes.slice();
        new DataView(wrong.buffer).setUint32(offset, count, true);
        expect(() => decodeFrame(wrong), `${offset} ${count}`).toThrow(
          expect.objectContaining({ code: 'frame.malformed' }),
        );
      }
  });
});
