/** Where the layers go: what is asked is checked here, the best placement is search.ts's, and it is told with its numbers. */
import { costModel, type CostModel } from './cost.ts';
import { noFit } from './no-fit.ts';
import { stageMemoryTable } from './memory.ts';
import { search, type Chosen, type Problem as SearchProblem } from './search.ts';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { ModelFacts, NodeFacts, Placement, PlanOptions, StageMemory } from './types.ts';

interface Problem {
  readonly model: ModelFacts;
  readonly nodes: readonly NodeFacts[];
  readonly everyNode: boolean;
  readonly memory: (first: number, end: number) => StageMemory;
  readonly cost: CostModel;
}

/**
 * Places `model` on `nodes`, in their order unless `anyOrder` is asked for.
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
    cost: costModel(model, nodes, options.network),
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
  const asked: SearchProblem = {
    nodes: p.nodes,
    layers: layers.length,
    everyNode: p.everyNode,
    anyOrder: options.anyOrder ?? false,
    cost: p.cost,
    bytes: (first, end) => p.memory(first, end).total,
    refused: refusals(p.model),
  };
  const chosen = search(asked);
  if (chosen !== undefined) return chosen;
  // Nothing fits: is it the memory, or is there no such division at all?
  const roomy = p.nodes.map((node) => ({ ...node, budgetBytes: Infinity }));
  if (search({ ...asked, nodes: roomy, anyOrder: false }) === undefined)
    throw tooMany(`${name} can't be cut into ${p.nodes.length} stages`);
  throw noFit(p.model, p.nodes, options);
}

/** A search asks about the same range for every node and every order. */
function refusals(model: ModelFacts): (first: number, end: number) => boolean {
  const rows = model.layers.length + 1;
  // 0: not asked yet, 1: allowed, 2: refused.
  const known = new Uint8Array(rows * rows);
  return (first, end) => {
    const index = first * rows + end;
    if (known[index] === 0) known[index] = model.rangeRefusal(first, end) === undefined ? 1 : 2;
    return known[index] === 2;
  };
}

function tooMany(message: string): MinikeepError {
  return new MinikeepError('plan.too_many_nodes', message, {
    next: 'Use fewer nodes.',
    exitCode: EXIT.usage,
  });
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
      waitsFor: p.cost.waitsFor(facts, first, end),
    };
  });
  const used = chosen.map(({ node }) => p.nodes[node] as NodeFacts);
  const hopCost = used.reduce(
    (sum, node, i) => sum + (i === 0 ? p.cost.entry(node) : p.cost.hop(used[i - 1] ?? node, node)),
    p.cost.exit(used.at(-1) as NodeFacts),
  );
  return {
    model: p.model.name,
    stages,
    cuts: chosen.slice(1).map(({ first }) => first),
    slowestCost: Math.max(...stages.map((stage) => stage.cost)),
    totalCost: stages.reduce((sum, stage) => sum + stage.cost, 0) + hopCost,
    hopCost,
    unused: p.nodes.filter((node) => !used.includes(node)).map(({ name }) => name),
    costInSeconds: p.cost.inSeconds,
    options,
  };
}

/** "1, 2, 3 … 29" for long lists. */
function list(values: readonly number[]): string {
  const shown = values.length > 12 ? [...values.slice(0, 10), '…', values.at(-1)] : values;
  return shown.join(', ') || 'none';
}
