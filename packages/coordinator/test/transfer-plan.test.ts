/** Who gets which piece from whom: against a dumb statement of the rules, over random clusters. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { wireSeconds } from '../src/forecast.ts';
import { planTransfers, type WantedSlice } from '../src/transfer-plan.ts';

const NODES = ['a', 'b', 'c', 'd'];
const digest = fc.integer({ min: 0, max: 11 }).map((n) => n.toString(16).padStart(64, '0'));

it('a node gets what its slices need, and may fetch nothing else', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          node: fc.constantFrom(...NODES.slice(0, 3)),
          pieces: fc.array(
            fc.record({ digest, bytes: fc.integer({ min: 1, max: 99 }), here: fc.boolean() }),
            { minLength: 1, maxLength: 8 },
          ),
        }),
        { minLength: 1, maxLength: 5 },
      ),
      fc.array(fc.uniqueArray(digest), { minLength: 4, maxLength: 4 }),
      (wanted: readonly WantedSlice[], held) => {
        const holdings = new Map(NODES.map((node, i) => [node, new Set(held[i])]));
        const plan = planTransfers(wanted, holdings);
        for (const [slice, { node, pieces }] of wanted.entries()) {
          const sources = plan.sources[slice] ?? [];
          // The model's files are the last resort: their disk and line serve all.
          expect(sources.slice(0, -1).every((source) => source.node !== undefined)).toBe(true);
          for (const [i, piece] of pieces.entries()) {
            const from = sources.filter((source) => source.pieces.includes(i));
            for (const source of from) {
              expect(source.node).not.toBe(node);
              if (source.node === undefined) expect(piece.here).toBe(true);
              else expect(holdings.get(source.node)?.has(piece.digest)).toBe(true);
              const grant = plan.grants.find((g) => g.from === source.node && g.reader === node);
              expect(grant?.digests).toContain(piece.digest);
            }
            const somewhere =
              piece.here || NODES.some((name) => holdings.get(name)?.has(piece.digest) === true);
            const own = holdings.get(node)?.has(piece.digest) === true;
            if (somewhere && !own) expect(from.length).toBeGreaterThan(0);
            const missing = plan.missing.some((m) => m.slice === slice && m.piece === i);
            expect(missing).toBe(!somewhere);
          }
        }
        for (const { from, reader, digests } of plan.grants) {
          expect(new Set(digests).size).toBe(digests.length);
          for (const each of digests) {
            const needs = wanted.some(
              (w) => w.node === reader && w.pieces.some((p) => p.digest === each),
            );
            expect(needs).toBe(true);
            if (from !== undefined) expect(holdings.get(from)?.has(each)).toBe(true);
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});

it('several holders share the work', () => {
  const pieces = Array.from({ length: 10 }, (_, i) => ({
    digest: i.toString(16).padStart(64, '0'),
    bytes: 100,
    here: true,
  }));
  const all = new Set(pieces.map((piece) => piece.digest));
  const wanted = ['a', 'b'].map((node, i) => ({ node, pieces: pieces.slice(i * 5, i * 5 + 5) }));
  const { sources, fetched } = planTransfers(
    wanted,
    new Map([
      ['c', all],
      ['d', all],
    ]),
  );
  // Half of the pieces are first asked of one, half of the other; the coordinator is asked last.
  const asked = sources.flatMap((each) =>
    pieces.slice(0, 5).map((_, i) => each.find((source) => source.pieces.includes(i))?.node ?? ''),
  );
  expect(asked.toSorted()).toEqual([...Array<string>(5).fill('c'), ...Array<string>(5).fill('d')]);
  expect(sources.every((each) => each.at(-1)?.node === undefined)).toBe(true);
  expect(fetched).toEqual(wanted.map(() => ({ fromHere: 0, fromNodes: 500 })));
});

it('what comes from the coordinator takes as long as its cable, one share after the other', () => {
  const way = (fromHere: number, fromNodes: number) => ({
    fromHere,
    fromNodes,
    bytesPerSecond: 10,
  });
  expect(wireSeconds([way(100, 0), way(100, 0)])).toBe(20);
  expect(wireSeconds([way(0, 100), way(0, 300)])).toBe(30);
  expect(wireSeconds([way(50, 100), way(20, 0)])).toBe(15);
});
