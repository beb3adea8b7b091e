/** Pieces of slices: they make up the slice, the same name means the same bytes in every cut, digests come from one reading. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  PIECE_CHUNK_BYTES,
  PieceHasher,
  PlanReader,
  chunkBytes,
  chunkCount,
  digestPiece,
  fingerprintModel,
  openModel,
  pieceDigest,
  planSlices,
  sharedPieces,
  sliceStream,
  type PiecePlan,
  type Planned,
  type Model,
  type Segment,
} from '../src/index.ts';
import { piecesOf, rangeOf, segmentBytes } from '../src/slice/pieces.ts';
import { concat, makeFile, repeats, seed, tinyLlama } from './support.ts';

let folder = '';
beforeAll(() => (folder = mkdtempSync(path.join(tmpdir(), 'minikeep-pieces-'))));
afterAll(() => rmSync(folder, { recursive: true }));

async function bytesOf(model: Model, plan: Planned): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of sliceStream(model, plan)) parts.push(part);
  return concat(parts);
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('make up every slice, and a shared name means the same bytes in every cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 7 }),
      fc.nat(),
      fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
      fc.boolean(),
      async (layers, shuffle, wishes, interleaved) => {
        const { keys, tensors } = tinyLlama(layers);
        const turned = shuffle % tensors.length;
        const ordered = [...tensors.slice(turned), ...tensors.slice(0, turned)];
        if (interleaved) ordered.sort((a, b) => (a.name.slice(-6) < b.name.slice(-6) ? -1 : 1));
        const file = makeFile(keys, ordered);
        writeFileSync(path.join(folder, 'm.gguf'), file);
        const model = await openModel(path.join(folder, 'm.gguf'));
        const shared = sharedPieces(model);
        const steps: number[] = [];
        const fingerprint = await fingerprintModel(model, shared, (done) => steps.push(done));
        expect(fingerprint.sha256).toBe(createHash('sha256').update(file).digest('hex'));
        expect(steps.at(-1)).toBe(file.byteLength);
        expect(new Set(fingerprint.pieces.keys())).toEqual(new Set(shared.map((p) => p.name)));
        const cuts = wishes.filter((cut) => cut < layers).toSorted((a, b) => a - b);
        for (const slice of [...planSlices(model, cuts), ...planSlices(model, [])]) {
          const whole = await bytesOf(model, slice);
          const parts: Uint8Array[] = [];
          for (const piece of slice.pieces) {
            parts.push(await bytesOf(model, piece));
            expect(parts.at(-1)?.byteLength).toBe(piece.bytes);
            const digests = await digestPiece(model, piece);
            if (piece.shared) expect(digests).toEqual(fingerprint.pieces.get(piece.name));
            else expect(piece.name).toBe('header');
          }
          expect(hex(concat(parts))).toBe(hex(whole));
          const names = slice.pieces.map((piece) => piece.name);
          expect(new Set(names).size).toBe(names.length);
          if (slice.kind === 'stage')
            for (let layer = slice.layers[0]; layer < slice.layers[1]; layer++)
              expect(names).toContain(`layer ${layer}`);
        }
      },
    ),
    { numRuns: repeats(40, 2000), seed: seed('pieces') },
  );
});

test('of any run are its bytes in order, none larger than allowed', () => {
  const segment: fc.Arbitrary<Segment> = fc.oneof(
    fc
      .uint8Array({ minLength: 1, maxLength: 40 })
      .map((data) => ({ from: 'memory', data }) as const),
    fc.integer({ min: 1, max: 60 }).map((bytes) => ({ from: 'zeros', bytes }) as const),
    fc
      .tuple(fc.nat(1000), fc.integer({ min: 1, max: 60 }))
      .map(([offset, bytes]) => ({ from: 'file', file: 0, offset, bytes }) as const),
  );
  /** Every byte by where it comes from. */
  const spell = (segments: readonly Segment[]): string[] =>
    segments.flatMap((s) =>
      s.from === 'memory'
        ? [...s.data].map((byte) => `m${byte}`)
        : Array.from({ length: s.bytes }, (_, i) =>
            s.from === 'zeros' ? 'z' : `f${s.offset + i}`,
          ),
    );
  fc.assert(
    fc.property(
      fc.array(segment, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 90 }),
      (segments, bytesMax) => {
        const pieces: PiecePlan[] = piecesOf('layer 3', segments, bytesMax);
        expect(spell(pieces.flatMap((p) => p.segments))).toEqual(spell(segments));
        for (const piece of pieces) {
          expect(piece.bytes).toBeLessThanOrEqual(bytesMax);
          expect(piece.bytes).toBe(piece.segments.reduce((n, s) => n + segmentBytes(s), 0));
        }
        expect(new Set(pieces.map((p) => p.name)).size).toBe(pieces.length);
        expect(rangeOf(segments, 5, 5)).toEqual([]);
      },
    ),
    { numRuns: repeats(300, 20_000), seed: seed('runs') },
  );
});

test('are hashed by chunks: the same digests however the bytes come', () => {
  const size = PIECE_CHUNK_BYTES * 2 + 77;
  const data = Buffer.alloc(size, 'chunks');
  const digests = (steps: number): Uint8Array => {
    const hasher = new PieceHasher(size);
    for (let at = 0; at < size; at += steps) hasher.update(data.subarray(at, at + steps));
    return hasher.finish().chunks;
  };
  const expected = concat(
    Array.from({ length: chunkCount(size) }, (_, i) =>
      createHash('sha256')
        .update(data.subarray(i * PIECE_CHUNK_BYTES, i * PIECE_CHUNK_BYTES + chunkBytes(size, i)))
        .digest(),
    ),
  );
  for (const steps of [size, PIECE_CHUNK_BYTES, 1_000_003, 4096])
    expect(hex(digests(steps))).toBe(hex(expected));
  expect(hex(pieceDigest({ bytes: size, chunks: expected }))).not.toBe(
    hex(pieceDigest({ bytes: size - 1, chunks: expected })),
  );
  expect(() => new PieceHasher(5).finish()).toThrow(/0 bytes of a piece of 5/);
});

test('are read at any place', async () => {
  const { keys, tensors } = tinyLlama(3);
  writeFileSync(path.join(folder, 'r.gguf'), makeFile(keys, tensors));
  const model = await openModel(path.join(folder, 'r.gguf'));
  const reader = new PlanReader(model);
  for (const slice of planSlices(model, [1])) {
    const whole = await bytesOf(model, slice);
    for (const [from, bytes] of [
      [0, slice.bytes],
      [1, 7],
      [slice.bytes - 9, 9],
    ] as const)
      expect(hex(await reader.read(slice, from, bytes))).toBe(
        hex(whole.subarray(from, from + bytes)),
      );
    await expect(reader.read(slice, slice.bytes - 1, 2)).rejects.toThrow(/of a plan of/);
  }
  await reader.close();
});
