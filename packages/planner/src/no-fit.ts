/** Says why a model does not fit, and what would make it fit. */
import { MinikeepError } from '@minikeep/protocol';
import { formatBytes } from './format.ts';
import { stageMemoryTable } from './memory.ts';
import type { ModelFacts, NodeFacts, PlanOptions } from './types.ts';

const CONTEXT_MIN_TOKENS = 256;

/** Needs of the whole model as one stage, less what is there only once a stage. */
function neededBytes(model: ModelFacts, stages: number, options: PlanOptions): number {
  const whole = stageMemoryTable(model, options)(0, model.layers.length);
  return whole.total + (stages - 1) * (whole.compute + whole.process);
}

/** Error `plan.no_fit`; its details carry the numbers. */
export function noFit(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): MinikeepError {
  const there = options.sharedBudgetBytes ?? nodes.reduce((sum, node) => sum + node.budgetBytes, 0);
  const needed = neededBytes(model, nodes.length, options);
  const weights = stageMemoryTable(model, options)(0, model.layers.length).weights;
  const next = adviceFor(model, nodes.length, options, { there, needed, weights });
  const where = options.sharedBudgetBytes === undefined ? `${nodes.length} nodes have` : 'there is';
  const message =
    needed <= there
      ? `${model.name} needs about ${formatBytes(needed)} and ${where} ${formatBytes(there)}, but no allowed cut fits each node's share`
      : `${model.name} needs about ${formatBytes(needed)} (weights ${formatBytes(weights)}), but ${where} ${formatBytes(there)}`;
  return new MinikeepError('plan.no_fit', message, {
    next,
    details: { needed_bytes: needed, budget_bytes: there, weight_bytes: weights },
  });
}

interface Bytes {
  readonly there: number;
  readonly needed: number;
  readonly weights: number;
}

/** What would make it fit, as far as sums can tell; never what was asked for already. */
function adviceFor(
  model: ModelFacts,
  stages: number,
  options: PlanOptions,
  { there, needed, weights }: Bytes,
): string {
  if (needed <= there) return 'Use nodes of similar size, or fewer and larger ones.';
  const leastOf = (parallel: number): number =>
    neededBytes(model, stages, { ...options, contextTokens: CONTEXT_MIN_TOKENS, parallel });
  for (const parallel of new Set([options.parallel, 1]))
    if (leastOf(parallel) <= there) {
      const context = fittingContext(model, stages, { ...options, parallel }, there);
      const fewer = parallel === options.parallel ? '' : `--parallel ${parallel} `;
      return `Ask for less context (${fewer}--context ${context}), or add memory.`;
    }
  return weights > there
    ? `The weights alone take ${formatBytes(weights)}: use a smaller quantisation or more nodes.`
    : 'Use more nodes, nodes with more memory, or a smaller quantisation.';
}

/** The largest multiple of 256 tokens with which the sum fits; the caller knows that the smallest does. */
function fittingContext(
  model: ModelFacts,
  stages: number,
  options: PlanOptions,
  there: number,
): number {
  // Invariant: `fits` multiples fit, `tooMany` do not.
  let fits = 1;
  let tooMany = Math.ceil(options.contextTokens / CONTEXT_MIN_TOKENS) + 1;
  while (tooMany - fits > 1) {
    const middle = Math.floor((fits + tooMany) / 2);
    const asked = { ...options, contextTokens: middle * CONTEXT_MIN_TOKENS };
    if (neededBytes(model, stages, asked) <= there) fits = middle;
    else tooMany = middle;
  }
  return fits * CONTEXT_MIN_TOKENS;
}
