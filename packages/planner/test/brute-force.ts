/**
 * The planner's dumb twin: tries every subset of nodes, every order of them if any is allowed, and every set of cuts.
 * For a handful of layers only.
 */
import { costModel } from '../src/cost.ts';
import { stageMemory } from '../src/memory.ts';
import type { ModelFacts, NodeFacts, PlanOptions } from '../src/types.ts';

const TIE = 1e-9;

export interface Best {
  readonly slowest: number;
  readonly total: number;
  /** The stages' squares, summed. */
  readonly uneven: number;
}

/** Smallest slowest stage, then smallest sum, then smallest squares; undefined when nothing fits. */
export function bruteForce(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): Best | undefined {
  const cost = costModel(model, nodes, options.network);
  let best: Best | undefined;
  const allCuts = subsets(model.layers.slice(1).map((_, i) => i + 1));
  const orders = options.anyOrder === true ? subsets(nodes).flatMap(permutations) : subsets(nodes);
  for (const used of orders) {
    if (used.length === 0 || ((options.useEveryNode ?? true) && used.length < nodes.length))
      continue;
    const fitting = allCuts.filter((cuts) => cuts.length === used.length - 1);
    for (const cuts of fitting) {
      const bounds = [0, ...cuts, model.layers.length];
      let slowest = 0;
      let total = 0;
      let uneven = 0;
      let fits = true;
      for (const [i, node] of used.entries()) {
        const first = bounds[i] ?? 0;
        const end = bounds[i + 1] ?? 0;
        fits &&= model.rangeRefusal(first, end) === undefined;
        fits &&= stageMemory(model, first, end, options).total <= node.budgetBytes;
        const stage = cost.stage(node, first, end);
        slowest = Math.max(slowest, stage);
        uneven += stage * stage;
        const before = used[i - 1];
        total += stage + (before === undefined ? cost.entry(node) : cost.hop(before, node));
        if (i === used.length - 1) total += cost.exit(node);
      }
      if (!fits) continue;
      const better =
        best === undefined ||
        slowest < best.slowest * (1 - TIE) ||
        (slowest <= best.slowest * (1 + TIE) &&
          (total < best.total * (1 - TIE) ||
            (total <= best.total * (1 + TIE) && uneven < best.uneven)));
      if (better) best = { slowest, total, uneven };
    }
  }
  return best;
}

export function subsets<T>(items: readonly T[]): T[][] {
  let all: T[][] = [[]];
  for (const item of items) all = all.flatMap((s) => [s, [...s, item]]);
  return all;
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, i) =>
    permutations(items.filter((_, k) => k !== i)).map((rest) => [item, ...rest]),
  );
}
