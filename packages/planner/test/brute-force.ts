/** The planner's dumb twin: tries every subset of nodes and every set of cuts. For a handful of layers only. */
import { costModel } from '../src/cost.ts';
import { stageMemory } from '../src/memory.ts';
import type { ModelFacts, NodeFacts, PlanOptions } from '../src/types.ts';

export interface Best {
  readonly slowest: number;
  readonly total: number;
}

/** Smallest slowest stage, then smallest sum; undefined when nothing fits. */
export function bruteForce(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): Best | undefined {
  const cost = costModel(model, nodes);
  let best: Best | undefined;
  for (const used of subsets(nodes)) {
    if (used.length === 0 || ((options.useEveryNode ?? true) && used.length < nodes.length))
      continue;
    for (const cuts of subsets(model.layers.slice(1).map((_, i) => i + 1))) {
      if (cuts.length !== used.length - 1) continue;
      const bounds = [0, ...cuts, model.layers.length];
      let slowest = 0;
      let total = 0;
      let fits = true;
      for (const [i, node] of used.entries()) {
        const first = bounds[i] ?? 0;
        const end = bounds[i + 1] ?? 0;
        fits &&= model.rangeRefusal(first, end) === undefined;
        fits &&= stageMemory(model, first, end, options).total <= node.budgetBytes;
        const stage = cost.stage(node, first, end);
        slowest = Math.max(slowest, stage);
        total += stage + (i === used.length - 1 ? 0 : cost.hop(node));
      }
      if (!fits) continue;
      const better =
        best === undefined ||
        slowest < best.slowest * (1 - 1e-9) ||
        (slowest <= best.slowest * (1 + 1e-9) && total < best.total);
      if (better) best = { slowest, total };
    }
  }
  return best;
}

function subsets<T>(items: readonly T[]): T[][] {
  let all: T[][] = [[]];
  for (const item of items) all = all.flatMap((s) => [s, [...s, item]]);
  return all;
}
