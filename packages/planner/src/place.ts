/**
 * Where the layers go: a pipeline is as fast as its slowest stage, so that one is minimised, subject to each node's
 * memory; among the placements that reach it, the one with the shortest way for a token (stages and hops).
 *
 * Two passes, because "smallest maximum, then smallest sum" has no optimal substructure in one: a prefix with a
 * larger maximum may still be part of the best whole. Pass 1 finds the smallest maximum; pass 2 the smallest sum
 * among placements that stay within it. test/brute-force.ts tries every placement and must agree.
 */
import { costModel, type CostModel } from './cost.ts';
import { noFit } from './no-fit.ts';
import { stageMemoryTable } from './memory.ts';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { ModelFacts, NodeFacts, Placement, PlanOptions, StageMemory } from './types.ts';

/** Room for rounding when a stage's cost is compared with the smallest maximum. */
const COST_TOLERANCE = 1e-9;

/** A stage that was chosen: node index and layers first <= i < end. */
interface Chosen {
  readonly node: number;
  readonly first: number;
  readonly end: number;
}

interface Problem {
  readonly model: ModelFacts;
  readonly nodes: readonly NodeFacts[];
  readonly everyNode: boolean;
  readonly memory: (first: number, end: number) => StageMemory;
  readonly cost: CostModel;
}

/**
 * Places `model` on `nodes`, in their order.
 * Errors: `plan.no_nodes`, `plan.too_many_nodes` (more nodes than the model can be cut into), `plan.cuts`
 * (asked-for boundaries that are not possible), `plan.no_fit` (not enough memory, with what would help).
 */
export function plan(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): Placement {
  if (nodes.length === 0)
    throw new MinikeepError('plan.no_nodes', 'there is no node to place the model on', {
      next: 'Name at least one node.',
      exitCode: EXIT.usage,
    });
  const problem: Problem = {
    model,
    nodes,
    everyNode: options.useEveryNode ?? true,
    memory: stageMemoryTable(model, options),
    cost: costModel(model, nodes),
  };
  const chosen =
    options.cuts === undefined ? best(problem, options) : forced(problem, options.cuts, options);
  const placement = describe(problem, chosen, options);
  const total = placement.stages.reduce((sum, stage) => sum + stage.memory.total, 0);
  if (options.sharedBudgetBytes !== undefined && total > options.sharedBudgetBytes)
    throw noFit(model, nodes, options);
  return placement;
}

function forced(p: Problem, cuts: readonly number[], options: PlanOptions): Chosen[] {
  if (cuts.length + 1 !== p.nodes.length)
    throw new MinikeepError(
      'plan.cuts',
      `${cuts.length} cuts make ${cuts.length + 1} stages, but there are ${p.nodes.length} nodes`,
      {
        next: `Give ${p.nodes.length - 1} cuts, or ${cuts.length + 1} nodes.`,
        exitCode: EXIT.usage,
      },
    );
  const bounds = [0, ...cuts, p.model.layers.length];
  const chosen: Chosen[] = [];
  for (let node = 0; node < p.nodes.length; node++) {
    const first = bounds[node] ?? 0;
    const end = bounds[node + 1] ?? 0;
    const why = first < end ? p.model.rangeRefusal(first, end) : 'the cuts have to rise';
    if (why !== undefined)
      throw new MinikeepError('plan.cuts', `${p.model.name} can't be cut so: ${why}`, {
        next: `To cut it in two, cut before one of these layers: ${list(p.model.allowedCuts)}.`,
        exitCode: EXIT.usage,
      });
    if (!fits(p, node, first, end)) throw noFit(p.model, p.nodes, options);
    chosen.push({ node, first, end });
  }
  return chosen;
}

const fits = (p: Problem, node: number, first: number, end: number): boolean =>
  p.memory(first, end).total <= (p.nodes[node]?.budgetBytes ?? 0);

function best(p: Problem, options: PlanOptions): Chosen[] {
  const { name, layers } = p.model;
  if (p.everyNode && p.nodes.length > layers.length)
    throw tooMany(`${name} has ${layers.length} layers, too few for ${p.nodes.length} stages`);
  const worst = search(p, Infinity, (soFar, stage) => Math.max(soFar, stage));
  if (worst === undefined) {
    // Nothing fits: is it the memory, or is there no such division at all?
    const roomy = p.nodes.map((node) => ({ ...node, budgetBytes: Infinity }));
    if (search({ ...p, nodes: roomy }, Infinity, () => 0) === undefined)
      throw tooMany(`${name} can't be cut into ${p.nodes.length} stages`);
    throw noFit(p.model, p.nodes, options);
  }
  const limit = worst.value * (1 + COST_TOLERANCE);
  const shortest = search(p, limit, (soFar, stage, hop) => soFar + stage + hop);
  return (shortest ?? worst).chosen;
}

function tooMany(message: string): MinikeepError {
  return new MinikeepError('plan.too_many_nodes', message, {
    next: 'Use fewer nodes.',
    exitCode: EXIT.usage,
  });
}

interface Found {
  readonly value: number;
  readonly chosen: Chosen[];
}

type Combine = (soFar: number, stageCost: number, hopCost: number) => number;

/**
 * Dynamic programming over (nodes seen, layers placed). Invariant: `table[b]` is the smallest combined value of
 * all ways to put the first b layers on the nodes seen so far, every stage within memory and `limit`.
 */
function search(p: Problem, limit: number, combine: Combine): Found | undefined {
  const count = p.model.layers.length;
  const n = count + 1;
  let table: (Found | undefined)[] = Array.from({ length: n }, () => undefined);
  table[0] = { value: 0, chosen: [] };
  for (const [node, facts] of p.nodes.entries()) {
    const next: (Found | undefined)[] = p.everyNode
      ? Array.from({ length: n }, () => undefined)
      : [...table];
    for (let from = 0; from < count; from++) {
      const before = table[from];
      if (before === undefined) continue;
      for (let to = from + 1; to < n; to++) {
        const cost = p.cost.stage(facts, from, to);
        const value = combine(before.value, cost, to === count ? 0 : p.cost.hop(facts));
        // The cheapest questions first: a model of a thousand layers has half a million ranges.
        if (cost > limit || value >= (next[to]?.value ?? Infinity)) continue;
        if (p.model.rangeRefusal(from, to) !== undefined) continue;
        // More layers only need more memory, but the last one brings the head: ask each time.
        if (!fits(p, node, from, to)) continue;
        next[to] = { value, chosen: [...before.chosen, { node, first: from, end: to }] };
      }
    }
    table = next;
  }
  return table[count];
}

function describe(p: Problem, chosen: readonly Chosen[], options: PlanOptions): Placement {
  const stages = chosen.map(({ node, first, end }) => {
    const facts = p.nodes[node];
    if (facts === undefined) throw new Error('a stage without a node');
    return {
      node: facts.name,
      layers: [first, end] as const,
      memory: p.memory(first, end),
      budgetBytes: facts.budgetBytes,
      cost: p.cost.stage(facts, first, end),
    };
  });
  const hops = chosen
    .slice(0, -1)
    .reduce((sum, { node }) => sum + p.cost.hop(p.nodes[node] as NodeFacts), 0);
  return {
    model: p.model.name,
    stages,
    cuts: chosen.slice(1).map(({ first }) => first),
    slowestCost: Math.max(...stages.map((stage) => stage.cost)),
    totalCost: stages.reduce((sum, stage) => sum + stage.cost, 0) + hops,
    costInSeconds: p.cost.inSeconds,
    options,
  };
}

/** "1, 2, 3 … 29" for long lists. */
function list(values: readonly number[]): string {
  const shown = values.length > 12 ? [...values.slice(0, 10), '…', values.at(-1)] : values;
  return shown.join(', ') || 'none';
}
