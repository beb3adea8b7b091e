/** Headers with random damage: refused with a typed error, or read to something that holds together. Never else. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MinikeepError } from '@minikeep/protocol';
import { MemorySource, parseHeader } from '../src/index.ts';
import { big, concat, list, makeFile, repeats, seed, tensor, tinyLlama, u32 } from './support.ts';

const RUNS = repeats(4000, 100_000);

const tiny = tinyLlama(3);
const BASE = makeFile(
  [
    ...tiny.keys,
    list(
      'a.long',
      'string',
      Array.from({ length: 1100 }, (_, i) => `${i}`),
    ),
  ],
  [...tiny.tensors, tensor('q', [256, 2], 8, 'Q4_K')],
);

/** Values that break arithmetic done without care. */
const NASTY = [
  0n,
  1n,
  31n,
  0x7fn,
  0xffn,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const place = fc.nat({ max: BASE.length - 1 });
const mutation = fc.oneof(
  fc.tuple(fc.constant('byte' as const), place, fc.nat({ max: 255 })),
  fc.tuple(fc.constant('u64' as const), place, fc.nat({ max: NASTY.length - 1 })),
  fc.tuple(fc.constant('u32' as const), place, fc.nat({ max: 0x7fffffff })),
  fc.tuple(fc.constant('cut' as const), place, fc.constant(0)),
  fc.tuple(fc.constant('insert' as const), place, fc.nat({ max: 40 })),
  fc.tuple(fc.constant('delete' as const), place, fc.nat({ max: 40 })),
  fc.tuple(fc.constant('repeat' as const), place, fc.nat({ max: 200 })),
);
type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

function apply(bytes: Uint8Array, [kind, at, value]: Mutation): Uint8Array {
  const from = Math.min(at, bytes.length);
  const copy = bytes.slice();
  switch (kind) {
    case 'byte':
      if (from < copy.length) copy[from] = value;
      return copy;
    case 'u64':
    case 'u32': {
      const patch = kind === 'u64' ? big(NASTY[value] ?? 0n) : u32(value);
      copy.set(patch.subarray(0, Math.max(0, copy.length - from)), from);
      return copy;
    }
    case 'cut':
      return copy.subarray(0, from);
    case 'insert':
      return concat([copy.subarray(0, from), new Uint8Array(value), copy.subarray(from)]);
    case 'delete':
      return concat([copy.subarray(0, from), copy.subarray(from + value)]);
    case 'repeat':
      return concat([copy.subarray(0, from + value), copy.subarray(from)]);
  }
}

/** Mutations near the start hit counts, lengths and types; most of the file is data. */
const nearStart = fc.tuple(mutation, fc.nat({ max: 1500 })).map(([m, at]): Mutation => {
  const moved: Mutation = [...m];
  moved[1] = at;
  return moved;
});

test(`${RUNS} damaged headers`, { timeout: 30 * 60_000 }, async () => {
  let read = 0;
  let refused = 0;
  const mutations = fc.array(fc.oneof({ weight: 4, arbitrary: nearStart }, mutation), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(mutations, async (list) => {
      const bytes = list.reduce(apply, BASE);
      try {
        const header = await parseHeader(new MemorySource(bytes));
        read++;
        const spans = header.tensors.map((t) => [t.offset, t.offset + t.bytes] as const);
        spans.sort(([a], [b]) => a - b);
        let end = header.dataOffset;
        for (const [from, to] of spans) {
          expect(from).toBeGreaterThanOrEqual(end);
          expect(to).toBeLessThanOrEqual(bytes.length);
          end = to;
        }
        for (const { range } of header.metadata.values()) {
          expect(range.offset + range.bytes).toBeLessThanOrEqual(header.dataOffset);
        }
      } catch (thrown) {
        if (!(thrown instanceof MinikeepError)) throw thrown;
        expect(thrown.code).toMatch(/^gguf\./);
        expect(thrown.details['offset']).toBeTypeOf('number');
        refused++;
      }
    }),
    { numRuns: RUNS, seed: seed('damaged headers') },
  );
  // Both outcomes have to occur, or the test would prove nothing.
  expect(read).toBeGreaterThan(RUNS / 100);
  expect(refused).toBeGreaterThan(RUNS / 10);
});
