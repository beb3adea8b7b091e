/** The placement: against a twin that tries everything, and by hand where a reader can follow. */
import { MinikeepError } from '@minikeep/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { explain, placementTable } from '../src/explain.ts';
import { formatDuration } from '../src/format.ts';
import { sendingSeconds } from '../src/network.ts';
import { plan } from '../src/place.ts';
import { planOrRaise } from '../src/raise.ts';
import type { LayerFacts, ModelFacts, NodeFacts, PlanOptions } from '../src/types.ts';
import { bruteForce, subsets } from './brute-force.ts';

const MIB = 1024 ** 2;
const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 20_000 : 2_000;

const OPTIONS: PlanOptions = { contextTokens: 1024, parallel: 1, batchRows: 64, mode: 'exact' };

function layer(mib: number, window?: number): LayerFacts {
  return {
    weightBytes: mib * MIB,
    activeBytes: mib * MIB,
    activeValues: mib * MIB,
    cache: {
      kind: 'attention',
      valuesPerPosition: 1024,
      ...(window === undefined ? {} : { window }),
    },
  };
}

function model(layers: readonly LayerFacts[], more: Partial<ModelFacts> = {}): ModelFacts {
  return {
    name: 'test',
    architecture: 'llama',
    layers,
    embeddingBytes: 10 * MIB,
    headBytes: 0,
    headValues: 0,
    sharedBytes: 0,
    embeddingLength: 512,
    vocabSize: 1000,
    graph: {
      attentionValues: 4096,
      feedForwardValues: 6144,
      headCount: 8,
      hasFullLayers: true,
    },
    contextLength: 4096,
    allowedCuts: layers.slice(1).map((_, i) => i + 1),
    rangeRefusal: () => undefined,
    ...more,
  };
}

/** Cuts as an architecture with a window pattern has them: a stage begins and ends at one of these. */
function onlyCuts(layers: readonly LayerFacts[], cuts: readonly number[]): Partial<ModelFacts> {
  const bounds = new Set([0, ...cuts, layers.length]);
  return {
    allowedCuts: cuts,
    rangeRefusal: (first, end) => (bounds.has(first) && bounds.has(end) ? undefined : 'refused'),
  };
}

const node = (name: string, mib: number, more: Partial<NodeFacts> = {}): NodeFacts => ({
  name,
  budgetBytes: mib * MIB,
  ...more,
});

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof MinikeepError ? error.code : String(error);
  }
  return 'no error';
}

describe('plan', () => {
  it('gives equal nodes equal stages', () => {
    const placement = plan(
      model(Array.from({ length: 12 }, () => layer(10))),
      ['a', 'b', 'c'].map((name) => node(name, 10_000)),
      OPTIONS,
    );
    expect(placement.stages.map((s) => s.layers)).toEqual([
      [0, 4],
      [4, 8],
      [8, 12],
    ]);
    expect(placement.cuts).toEqual([4, 8]);
  });

  it('gives the last node fewer layers when the head is large', () => {
    const m = model(
      Array.from({ length: 12 }, () => layer(10)),
      { headBytes: 40 * MIB },
    );
    expect(plan(m, [node('a', 10_000), node('b', 10_000)], OPTIONS).cuts).toEqual([8]);
  });

  it('gives the faster node more, and leaves a node out when that is faster and allowed', () => {
    const m = model(Array.from({ length: 12 }, () => layer(10)));
    const fast = node('fast', 10_000, { memoryBytesPerSecond: 200e9 });
    const slow = node('slow', 10_000, { memoryBytesPerSecond: 100e9 });
    const dead = node('dead', 10_000, { memoryBytesPerSecond: 1 });
    const two = plan(m, [fast, slow], OPTIONS);
    expect(two.cuts).toEqual([8]);
    expect(two.costInSeconds).toBe(true);
    const three = plan(m, [fast, dead, slow], { ...OPTIONS, useEveryNode: false });
    expect(three.stages.map((s) => s.node)).toEqual(['fast', 'slow']);
  });

  it('obeys memory before speed', () => {
    const m = model(Array.from({ length: 12 }, () => layer(100)));
    const placement = plan(m, [node('small', 700), node('large', 4_000)], OPTIONS);
    const first = placement.stages[0];
    expect(first?.memory.total).toBeLessThanOrEqual(700 * MIB);
    expect(first?.layers[1]).toBeLessThan(6);
  });

  it('takes only allowed cuts', () => {
    const m = model(
      Array.from({ length: 12 }, () => layer(10)),
      onlyCuts(
        Array.from({ length: 12 }, () => layer(10)),
        [2, 6],
      ),
    );
    expect(plan(m, [node('a', 9_999), node('b', 9_999)], OPTIONS).cuts).toEqual([6]);
  });

  it('counts a window once it is smaller than the context, in fast mode', () => {
    const wide = model(Array.from({ length: 4 }, () => layer(1)));
    const narrow = model(Array.from({ length: 4 }, () => layer(1, 128)));
    const options = { ...OPTIONS, contextTokens: 8192 };
    const of = (m: ModelFacts, mode: 'exact' | 'fast'): number =>
      plan(m, [node('a', 100_000)], { ...options, mode }).stages[0]?.memory.cache ?? 0;
    expect(of(wide, 'fast')).toBe(4 * 8192 * 1024 * 2);
    expect(of(narrow, 'fast')).toBe(4 * 256 * 1024 * 2);
    expect(of(narrow, 'exact')).toBe(4 * 8192 * 1024 * 2);
  });

  it('says what is wrong with cuts that were asked for', () => {
    const m = model(
      Array.from({ length: 12 }, () => layer(10)),
      onlyCuts(
        Array.from({ length: 12 }, () => layer(10)),
        [2, 6],
      ),
    );
    const two = [node('a', 9_999), node('b', 9_999)];
    expect(plan(m, two, { ...OPTIONS, cuts: [2] }).cuts).toEqual([2]);
    expect(codeOf(() => plan(m, two, { ...OPTIONS, cuts: [3] }))).toBe('plan.cuts');
    expect(codeOf(() => plan(m, two, { ...OPTIONS, cuts: [2, 6] }))).toBe('plan.cuts');
    expect(codeOf(() => plan(m, two, { ...OPTIONS, cuts: [12] }))).toBe('plan.cuts');
    expect(codeOf(() => plan(m, [], OPTIONS))).toBe('plan.no_nodes');
    const many = Array.from({ length: 4 }, (_, i) => node(`n${i}`, 9_999));
    expect(codeOf(() => plan(m, many, OPTIONS))).toBe('plan.too_many_nodes');
  });

  it('says what would help when it does not fit', () => {
    const m = model(Array.from({ length: 12 }, () => layer(100)));
    const small = [node('a', 500), node('b', 500)];
    expect(() => plan(m, small, OPTIONS)).toThrow(/needs about .* but 2 nodes have 1000 MiB/);
    const long = { ...OPTIONS, contextTokens: 1024 * 1024 };
    let next = '';
    try {
      plan(m, [node('a', 3_000), node('b', 3_000)], long);
    } catch (error) {
      next = (error as MinikeepError).next;
    }
    const suggested = Number(/--context (\d+)/.exec(next)?.[1]);
    expect(suggested).toBeGreaterThan(1024);
    expect(codeOf(() => plan(m, [node('a', 6_000)], { ...long, contextTokens: suggested }))).toBe(
      'no error',
    );
  });

  it('gives no advice that would not help', () => {
    const m = model(Array.from({ length: 12 }, () => layer(100)));
    const adviceFor = (nodes: readonly NodeFacts[], options: PlanOptions): string => {
      try {
        plan(m, nodes, options);
      } catch (error) {
        return (error as MinikeepError).next;
      }
      throw new Error('it fits');
    };
    // Enough together, but one node can't take any part: the context is not to blame.
    expect(adviceFor([node('a', 9_000), node('b', 100)], OPTIONS)).not.toContain('--context');
    // With 200 conversations even the smallest context is too much; with one it is not.
    const crowd = { ...OPTIONS, contextTokens: 4096, parallel: 200 };
    const next = adviceFor([node('a', 2_000)], crowd);
    expect(next).toContain('--parallel');
    const suggested = Number(/--context (\d+)/.exec(next)?.[1]);
    const followed = { ...crowd, parallel: 1, contextTokens: suggested };
    expect(codeOf(() => plan(m, [node('a', 2_000)], followed))).toBe('no error');
  });

  it('checks the sum when all nodes are one machine', () => {
    const m = model(Array.from({ length: 12 }, () => layer(100)));
    const nodes = [node('a', 4_000), node('b', 4_000)];
    expect(codeOf(() => plan(m, nodes, { ...OPTIONS, sharedBudgetBytes: 1_500 * MIB }))).toBe(
      'plan.no_fit',
    );
    expect(codeOf(() => plan(m, nodes, { ...OPTIONS, sharedBudgetBytes: 8_000 * MIB }))).toBe(
      'no error',
    );
  });

  it('explains itself', () => {
    const m = model(Array.from({ length: 12 }, () => layer(10)));
    const nodes = [node('a', 1_000), node('b', 1_000)];
    const placement = plan(m, nodes, OPTIONS);
    expect([...placementTable(m, placement), ...explain(m, placement, nodes)].join('\n'))
      .toMatchInlineSnapshot(`
        "test: llama, 12 layers, context 1024 × 1, exact
        node  layers   weights  KV cache   compute  process    total    budget  used
        a        0–5  70.0 MiB  12.0 MiB  3.25 MiB  256 MiB  341 MiB  1000 MiB  34 %
        b       6–11  60.0 MiB  12.0 MiB  3.25 MiB  128 MiB  203 MiB  1000 MiB  20 %
        This model can be cut before any of its 12 layers.
        a: 6 layers and the embeddings (10.0 MiB) and the text engine; a token reads 60.0 MiB, the slowest. Its limit is speed: with another layer it would be the slowest.
        b: 6 layers and the output matrix (0 B); a token reads 60.0 MiB, the slowest. Its limit is speed: with another layer it would be the slowest.
        Weights and KV cache follow from the file; compute buffers from what llama.cpp reserves for such graphs.
        No speed is predicted: the bandwidth of a node is unknown."
      `);
  });

  it('keeps the order of the nodes unless another one is quicker', () => {
    const m = model([1, 1, 1, 1].map((n) => layer(n)));
    const same = { budgetBytes: 900 * MIB, memoryBytesPerSecond: 1e9 };
    const nodes = ['a', 'b', 'c'].map((name) => ({ name, ...same }));
    const fast = { latencySeconds: 0.001, bytesPerSecond: 1e9 };
    type Pair = readonly [string, string];
    const pair = (between: Pair, latencySeconds: number) => {
      const link = { ...fast, latencySeconds };
      return { between, link };
    };
    const order = (slow: number) =>
      plan(m, nodes, {
        ...OPTIONS,
        anyOrder: true,
        network: { pairs: [pair(['a', 'b'], slow), pair(['b', 'c'], 0.001)], fallback: fast },
      }).stages.map(({ node }) => node);
    expect(order(0.001)).toEqual(['a', 'b', 'c']);
    // Each order but those with a beside b.
    expect(order(0.1).join()).toMatch(/^(a,c,b|b,c,a)$/);
  });

  it('says how the limits are raised when that makes it fit', () => {
    const m = model([layer(100), layer(100)]);
    const mac = (budgetBytes: number): NodeFacts => ({
      name: 'mini-1',
      budgetBytes,
      wiredLimit: { memoryBytes: 16 * 1024 * MIB, highestBytes: 8 * 1024 * MIB },
    });
    expect(planOrRaise(m, [mac(4096 * MIB)], OPTIONS).stages).toHaveLength(1);
    expect(() => planOrRaise(m, [mac(300 * MIB)], OPTIONS)).toThrow(
      expect.objectContaining({
        code: 'plan.no_fit',
        next: expect.stringMatching(/^Raise the limits \(mini-1: sudo sysctl iogpu/),
      }),
    );
    const bare = { name: 'linux', budgetBytes: 300 * MIB };
    expect(() => planOrRaise(m, [bare], OPTIONS)).toThrow(
      expect.objectContaining({ next: expect.stringMatching(/context|quantisation|nodes/) }),
    );
  });

  it('says how long the slices will be on their way, through the coordinator’s one cable', () => {
    const m = model(Array.from({ length: 8 }, () => layer(100)));
    const nodes = ['a', 'b', 'c'].map((name) => ({ name, budgetBytes: 4096 * MIB }));
    const link = { latencySeconds: 0.001, bytesPerSecond: 50 * MIB };
    const network = { coordinator: 'a', fallback: link };
    const placed = plan(m, nodes, { ...OPTIONS, network });
    const sent = placed.stages.slice(1).reduce((sum, { memory }) => sum + memory.weights, 0);
    expect(sendingSeconds(placed)).toBeCloseTo(sent / (50 * MIB), 6);
    expect(explain(m, placed, nodes).join('\n')).toMatch(/Sending \d+ MiB .* about 1\d s\./);
    expect(sendingSeconds(plan(m, nodes, { ...OPTIONS, network: { fallback: link } }))).toBe(
      undefined,
    );
    expect([0.4, 89, 3425, 9000].map(formatDuration)).toEqual(['1 s', '89 s', '57 min', '2.5 h']);
  });

  it('is as good as trying everything', () => {
    const facts = fc
      .array(
        fc.record({
          mib: fc.integer({ min: 1, max: 50 }),
          active: fc.double({ min: 0.1, max: 1, noNaN: true }),
        }),
        { minLength: 1, maxLength: 8 },
      )
      .chain((layers) =>
        fc.record({
          layers: fc.constant(layers),
          head: fc.integer({ min: 0, max: 60 }),
          cuts: fc.subarray(layers.slice(1).map((_, i) => i + 1)),
          // Few values, so that some nodes are alike and some not.
          nodes: fc.array(
            fc.record({
              mib: fc.constantFrom(200, 450, 450, 700),
              speed: fc.constantFrom(1, 5, 5, 20),
              compute: fc.option(fc.constantFrom(1, 10)),
            }),
            { minLength: 1, maxLength: 4 },
          ),
          links: fc.array(fc.constantFrom(0, 1, 1, 30), { minLength: 6, maxLength: 6 }),
          coordinator: fc.option(fc.constantFrom('n0', 'n1', 'elsewhere')),
          forbidden: fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 2 }),
          every: fc.boolean(),
          anyOrder: fc.boolean(),
          known: fc.boolean(),
        }),
      );
    let placed = 0;
    fc.assert(
      fc.property(facts, (c) => {
        const m = model(
          c.layers.map((l) => ({
            ...layer(l.mib),
            activeBytes: l.mib * MIB * l.active,
            activeValues: l.mib * MIB * l.active,
          })),
          {
            headBytes: c.head * MIB,
            // Some lengths are refused wherever they lie, as real architectures do.
            rangeRefusal: (first, end) =>
              (c.forbidden.includes(end - first) && end - first < c.layers.length) ||
              (first > 0 && !c.cuts.includes(first))
                ? 'refused'
                : undefined,
          },
        );
        const nodes = c.nodes.map((n, i) =>
          node(`n${i}`, n.mib, {
            ...(c.known ? { memoryBytesPerSecond: n.speed * 1e9 } : {}),
            ...(n.compute === null ? {} : { operationsPerSecond: n.compute * 1e9 }),
          }),
        );
        const pairs = subsets([0, 1, 2, 3])
          .filter((pair) => pair.length === 2)
          .map(([a, b], i) => ({
            between: [`n${a}`, `n${b}`] as const,
            link: { latencySeconds: (c.links[i] ?? 0) / 1000, bytesPerSecond: 1e8 },
          }));
        const options = {
          ...OPTIONS,
          useEveryNode: c.every,
          anyOrder: c.anyOrder,
          network: {
            pairs,
            fallback: { latencySeconds: 0.001, bytesPerSecond: 1e8 },
            ...(c.coordinator === null ? {} : { coordinator: c.coordinator }),
          },
        };
        const wanted = bruteForce(m, nodes, options);
        if (wanted === undefined) {
          expect(['plan.no_fit', 'plan.too_many_nodes']).toContain(
            codeOf(() => plan(m, nodes, options)),
          );
          return;
        }
        placed++;
        const found = plan(m, nodes, options);
        expect(found.slowestCost).toBeCloseTo(wanted.slowest, 9);
        expect(found.totalCost).toBeCloseTo(wanted.total, 8);
        const uneven = found.stages.reduce((sum, { cost }) => sum + cost * cost, 0);
        // Another order may be more even; the given one stays when it is as quick.
        if (!options.anyOrder) expect(uneven).toBeLessThanOrEqual(wanted.uneven * (1 + 1e-6));
        expect(found.hopCost + found.stages.reduce((sum, { cost }) => sum + cost, 0)).toBeCloseTo(
          found.totalCost,
          9,
        );
        for (const s of found.stages) expect(s.memory.total).toBeLessThanOrEqual(s.budgetBytes);
        expect(found.stages[0]?.layers[0]).toBe(0);
        expect(found.stages.at(-1)?.layers[1]).toBe(m.layers.length);
      }),
      { numRuns: RUNS },
    );
    // A test in which nothing ever fits would prove nothing.
    expect(placed).toBeGreaterThan(RUNS / 10);
  });
});
