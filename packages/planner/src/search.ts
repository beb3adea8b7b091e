/**
 * Which node gets which layers: the exact search. A pipeline is as fast as its slowest stage, so that one is minimised;
 * among the placements that reach it, the one with the shortest way for a token (stages and hops); among those, the
 * most even one: a large output matrix can be the slowest stage by itself, and the others would share the layers anyhow,
 * though prompts, of which only the last row meets that matrix, wait for the stage with the most layers.
 *
 * Two passes, because "smallest maximum, then smallest sum" has no optimal substructure in one: a prefix with a larger
 * maximum may still be part of the best whole. Pass 1 finds the smallest maximum; pass 2 the smallest sum among
 * placements that stay within it. test/brute-force.ts tries every placement and must agree.
 *
 * Both are dynamic programming over (nodes used, the last of them, layers placed). Nodes that are alike in everything
 * are one kind, and only how many of a kind are used is kept: eight equal machines are 9 states, not 256.
 */
import type { CostModel } from './cost.ts';
import type { NodeFacts } from './types.ts';

/** Room for rounding when a stage's cost is compared with the smallest maximum. */
const COST_TOLERANCE = 1e-9;
/** Weight of the squares of the stages beside their sum: only placements of equal sums are told apart by it. */
const EVENNESS = 1e-9;
/** Ranges looked at in one pass at most: some seconds. More nodes of different kinds keep the order they are given in. */
const WORK_MAX = 300_000_000;

/** A stage that was chosen: node index and layers first <= i < end. */
export interface Chosen {
  readonly node: number;
  readonly first: number;
  readonly end: number;
}

export interface Problem {
  readonly nodes: readonly NodeFacts[];
  readonly layers: number;
  readonly everyNode: boolean;
  readonly anyOrder: boolean;
  readonly cost: CostModel;
  /** Bytes that layers first <= i < end need. */
  readonly bytes: (first: number, end: number) => number;
  readonly refused: (first: number, end: number) => boolean;
}

/** What a search walks over: steps from one set of used nodes to another by giving one more node a stage. */
interface Steps {
  /** Number of sets; every step leads to a set of a higher number. Set 0 is the empty one. */
  readonly sets: number;
  /** For each set: the kinds that may come next, and the set that this makes. */
  readonly next: (set: number) => readonly { readonly kind: number; readonly set: number }[];
  /** May the placement end here? */
  readonly whole: (set: number) => boolean;
  /** Any node of the kind. */
  readonly kinds: readonly NodeFacts[];
  /** Seconds from one node of a kind to another node of a kind. */
  readonly hop: (from: number, to: number) => number;
  /** Which node a kind's n-th use is. */
  readonly member: (kind: number, use: number) => number;
}

/** The best placement, or undefined when there is none; the order that was given stays when no other one is better. */
export function search(p: Problem): Chosen[] | undefined {
  const given = bestOf(p, givenSteps(p));
  if (!triesEveryOrder(p)) return given?.chosen;
  const any = bestOf(p, freeSteps(p));
  if (given === undefined || any === undefined) return any?.chosen;
  return better(any, given) ? any.chosen : given.chosen;
}

interface Best {
  readonly slowest: number;
  readonly sum: number;
  readonly chosen: Chosen[];
}

function bestOf(p: Problem, steps: Steps): Best | undefined {
  const worst = pass(p, steps, { limit: Infinity, sums: false });
  if (worst === undefined) return undefined;
  const limit = worst.value * (1 + COST_TOLERANCE);
  const { value: sum, chosen } = pass(p, steps, { limit, sums: true }) ?? worst;
  return { slowest: worst.value, sum, chosen };
}

const better = (one: Best, other: Best): boolean =>
  one.slowest < other.slowest * (1 - COST_TOLERANCE) ||
  (one.slowest <= other.slowest * (1 + COST_TOLERANCE) &&
    one.sum < other.sum * (1 - COST_TOLERANCE));

/** Whether every order of the nodes is looked at: with many nodes of different kinds that would take too long. */
export function triesEveryOrder(p: Problem): boolean {
  if (!p.anyOrder) return false;
  const kinds = kindsOf(p);
  const sets = kinds.reduce((product, kind) => product * (kind.length + 1), 1);
  return (sets * kinds.length * p.layers * (p.layers + 1)) / 2 <= WORK_MAX;
}

/** In the nodes' own order: a set is "up to node i", so that the last one is known from it. */
function givenSteps({ nodes, everyNode, cost }: Problem): Steps {
  const all = nodes.map((_, i) => ({ kind: i, set: i + 1 }));
  return {
    sets: nodes.length + 1,
    next: (set) => (everyNode ? all.slice(set, set + 1) : all.slice(set)),
    whole: (set) => (everyNode ? set === nodes.length : set > 0),
    kinds: nodes,
    hop: (from, to) => cost.hop(nodes[from] as NodeFacts, nodes[to] as NodeFacts),
    member: (kind) => kind,
  };
}

/** In any order: a set counts how many of each kind are used, as digits of a number. */
function freeSteps(p: Problem): Steps {
  const kinds = kindsOf(p);
  const units: number[] = [];
  let sets = 1;
  for (const kind of kinds) {
    units.push(sets);
    sets *= kind.length + 1;
  }
  const used = (set: number, kind: number): number =>
    Math.floor(set / (units[kind] ?? 1)) % ((kinds[kind]?.length ?? 0) + 1);
  return {
    sets,
    next: (set) =>
      kinds.flatMap((members, kind) =>
        used(set, kind) < members.length ? [{ kind, set: set + (units[kind] ?? 0) }] : [],
      ),
    whole: (set) => (p.everyNode ? set === sets - 1 : set > 0),
    kinds: kinds.map((members) => p.nodes[members[0] ?? 0] as NodeFacts),
    // Two of one kind: any two of them, as long as they are not the same.
    hop: (from, to) =>
      p.cost.hop(
        p.nodes[kinds[from]?.[0] ?? 0] as NodeFacts,
        p.nodes[kinds[to]?.[from === to ? 1 : 0] ?? kinds[to]?.[0] ?? 0] as NodeFacts,
      ),
    member: (kind, use) => kinds[kind]?.[use] ?? 0,
  };
}

/** Nodes that can stand for each other: same memory, same speeds, the same ways to everyone else. */
function kindsOf({ nodes, cost }: Problem): number[][] {
  const kinds: number[][] = [];
  for (const [i, node] of nodes.entries()) {
    const same = kinds.find(([other]) => {
      const like = nodes[other ?? 0] as NodeFacts;
      return (
        like.budgetBytes === node.budgetBytes &&
        like.memoryBytesPerSecond === node.memoryBytesPerSecond &&
        like.operationsPerSecond === node.operationsPerSecond &&
        cost.entry(like) === cost.entry(node) &&
        cost.exit(like) === cost.exit(node) &&
        nodes.every(
          (third) =>
            third === node || third === like || cost.hop(like, third) === cost.hop(node, third),
        )
      );
    });
    if (same === undefined) kinds.push([i]);
    else same.push(i);
  }
  return kinds;
}

interface Found {
  readonly value: number;
  readonly chosen: Chosen[];
}

interface Pass {
  /** No stage may cost more. */
  readonly limit: number;
  /** Add stages, with their squares, and hops (pass 2), or keep the slowest stage (pass 1). */
  readonly sums: boolean;
}

/**
 * Invariant: `best[(set × kinds + last) × (layers + 1) + placed]` is the smallest value of all ways to put the first
 * `placed` layers on the nodes of `set`, the last stage on one of kind `last`, every stage within memory and limit.
 */
function pass(p: Problem, steps: Steps, { limit, sums }: Pass): Found | undefined {
  const { layers, cost } = p;
  const kinds = steps.kinds.length;
  const rows = layers + 1;
  const best = new Float64Array(steps.sets * kinds * rows).fill(Infinity);
  /** Where the last stage begins, and the kind before it (`kinds` for none). */
  const begins = new Int32Array(best.length);
  const before = new Int32Array(best.length);
  const cameFrom = new Int32Array(best.length);
  const hops = steps.kinds.map((_, from) => steps.kinds.map((__, to) => steps.hop(from, to)));
  const cell = (set: number, last: number): number => (set * kinds + last) * rows;
  for (let set = 0; set < steps.sets; set++)
    for (const { kind, set: after } of steps.next(set)) {
      const node = steps.kinds[kind] as NodeFacts;
      const base = cell(after, kind);
      for (let from = 0; from < layers; from++) {
        const start = cheapest(set, kind, from);
        if (start.value === Infinity) continue;
        for (let to = from + 1; to <= layers; to++) {
          const stage = cost.stage(node, from, to);
          let value = Math.max(start.value, stage);
          if (sums) {
            const uneven = limit > 0 ? (EVENNESS * stage * stage) / limit : 0;
            value = start.value + stage + uneven + (to === layers ? cost.exit(node) : 0);
          }
          // The cheapest questions first: a model of a thousand layers has half a million ranges.
          if (stage > limit || value >= (best[base + to] ?? Infinity)) continue;
          // More layers only need more memory, but the last one brings the head: ask each time.
          if (p.bytes(from, to) > node.budgetBytes || p.refused(from, to)) continue;
          best[base + to] = value;
          begins[base + to] = from;
          before[base + to] = start.kind;
          cameFrom[base + to] = set;
        }
      }
    }

  /** The best way to have the first `from` layers on `set`, with the way to the next node. */
  function cheapest(set: number, next: number, from: number): { value: number; kind: number } {
    if (set === 0) {
      const entry = sums ? cost.entry(steps.kinds[next] as NodeFacts) : 0;
      return { value: from === 0 ? entry : Infinity, kind: kinds };
    }
    let value = Infinity;
    let kind = kinds;
    for (let last = 0; last < kinds; last++) {
      const held = best[cell(set, last) + from] ?? Infinity;
      const whole = sums ? held + (hops[last]?.[next] ?? 0) : held;
      if (whole < value) [value, kind] = [whole, last];
    }
    return { value, kind };
  }

  let end = { value: Infinity, set: 0, kind: kinds };
  for (let set = 1; set < steps.sets; set++)
    if (steps.whole(set))
      for (let kind = 0; kind < kinds; kind++) {
        const value = best[cell(set, kind) + layers] ?? Infinity;
        if (value < end.value) end = { value, set, kind };
      }
  if (end.value === Infinity) return undefined;
  const backwards: { kind: number; first: number; end: number }[] = [];
  let at = { set: end.set, kind: end.kind, layer: layers };
  while (at.set > 0) {
    const index = cell(at.set, at.kind) + at.layer;
    const first = begins[index] ?? 0;
    backwards.push({ kind: at.kind, first, end: at.layer });
    at = { set: cameFrom[index] ?? 0, kind: before[index] ?? 0, layer: first };
  }
  const uses = new Map<number, number>();
  const chosen = backwards.toReversed().map(({ kind, first, end: last }) => {
    const use = uses.get(kind) ?? 0;
    uses.set(kind, use + 1);
    return { node: steps.member(kind, use), first, end: last };
  });
  return { value: end.value, chosen };
}
