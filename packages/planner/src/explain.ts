/** A placement in words: what goes where, what it takes, and why the boundaries lie where they do. */
import { formatBytes } from './format.ts';
import type { ModelFacts, Placement, StagePlacement } from './types.ts';

/** One line about the model, then one a stage. Lines for a terminal, without colour. */
export function placementTable(model: ModelFacts, placement: Placement): string[] {
  const { options, stages } = placement;
  const lines = [
    `${model.name}: ${model.architecture}, ${model.layers.length} layers, context ${options.contextTokens} × ${options.parallel}, ${options.mode}`,
    ...table([
      ['node', 'layers', 'weights', 'KV cache', 'compute', 'process', 'total', 'budget', 'used'],
      ...stages.map((stage) => [
        stage.node,
        `${stage.layers[0]}–${stage.layers[1] - 1}`,
        formatBytes(stage.memory.weights),
        formatBytes(stage.memory.cache),
        formatBytes(stage.memory.compute),
        formatBytes(stage.memory.process),
        formatBytes(stage.memory.total),
        formatBytes(stage.budgetBytes),
        `${((stage.memory.total / stage.budgetBytes) * 100).toFixed(0)} %`,
      ]),
    ]),
  ];
  if (options.sharedBudgetBytes !== undefined) {
    const total = stages.reduce((sum, stage) => sum + stage.memory.total, 0);
    lines.push(
      `All nodes are on one machine: ${formatBytes(total)} of ${formatBytes(options.sharedBudgetBytes)} together.`,
    );
  }
  return lines;
}

/** Why the boundaries lie where they do, what is exact and what is not. */
export function explain(model: ModelFacts, placement: Placement): string[] {
  const { stages, options } = placement;
  const slowest = stages.reduce((a, b) => (b.cost > a.cost ? b : a));
  const lines: string[] = [];
  if (options.cuts !== undefined) lines.push('The boundaries are the ones that were asked for.');
  else if (stages.length > 1) {
    const all = model.allowedCuts.length === model.layers.length - 1;
    lines.push(
      all
        ? `This model can be cut before any of its ${model.layers.length} layers.`
        : `This architecture allows ${model.allowedCuts.length} of ${model.layers.length - 1} cuts: ${cutList(model)}.`,
      `No allowed placement has a faster slowest stage: ${slowest.node} reads ${share(slowest, stages)} of the weights that a token needs.`,
    );
    if (stages.at(-1) !== slowest && model.headBytes > 0)
      lines.push(
        `The last node also computes the output matrix (${formatBytes(model.headBytes)}), so it gets fewer layers.`,
      );
  }
  lines.push(
    'Weights and KV cache follow from the file; compute buffers are an estimate.',
    placement.costInSeconds
      ? `Predicted: ${(1 / placement.totalCost).toFixed(1)} tokens/s for one sequence, ${(1 / placement.slowestCost).toFixed(1)} for a full pipeline (memory bandwidth only).`
      : 'No speed is predicted: the bandwidth of a node is unknown.',
  );
  return lines;
}

function cutList(model: ModelFacts): string {
  const cuts = model.allowedCuts;
  return cuts.length > 12 ? `${cuts.slice(0, 10).join(', ')} … ${cuts.at(-1)}` : cuts.join(', ');
}

function share(stage: StagePlacement, stages: readonly StagePlacement[]): string {
  const total = stages.reduce((sum, s) => sum + s.cost, 0);
  return `${((stage.cost / total) * 100).toFixed(0)} %`;
}

/** Columns aligned: the first to the left, numbers to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, c) => Math.max(...rows.map((r) => (r[c] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, c) => (c === 0 ? cell.padEnd(widths[c] ?? 0) : cell.padStart(widths[c] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
