/** A placement in words: what goes where, what it takes, what holds it back, and how fast it will be. */
import { promptSeconds } from './cost.ts';
import { formatBytes, formatDuration } from './format.ts';
import { stageMemoryTable } from './memory.ts';
import { sendingSeconds } from './network.ts';
import type { Raise } from './raise.ts';
import type { ModelFacts, NodeFacts, Placement, StagePlacement } from './types.ts';

const COLUMNS = 'node|layers|weights|KV cache|compute|process|total|budget|used'.split('|');

/** One line about the model, then one a stage, with what is known of `nodes`. Lines for a terminal, without colour. */
export function placementTable(
  model: ModelFacts,
  placement: Placement,
  nodes: readonly NodeFacts[] = [],
): string[] {
  const { options, stages } = placement;
  const checks = new Map(nodes.map(({ name, modelCheck }) => [name, modelCheck]));
  const checked = nodes.some(({ modelCheck }) => modelCheck !== undefined);
  const lines = [
    `${model.name}: ${model.architecture}, ${model.layers.length} layers, context ${options.contextTokens} × ${options.parallel}, ${options.mode}`,
    ...table([
      [...COLUMNS, ...(checked ? ['check'] : [])],
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
        ...(checked ? [checks.get(stage.node) ?? 'not run'] : []),
      ]),
    ]),
  ];
  if (placement.unused.length > 0) lines.push(`Not used: ${placement.unused.join(', ')}.`);
  if (options.sharedBudgetBytes !== undefined) {
    const total = stages.reduce((sum, stage) => sum + stage.memory.total, 0);
    lines.push(
      `All nodes are on one machine: ${formatBytes(total)} of ${formatBytes(options.sharedBudgetBytes)} together.`,
    );
  }
  return lines;
}

/** Why the boundaries lie where they do, what is exact and what is not. `nodes` are those the placement was made for. */
export function explain(
  model: ModelFacts,
  placement: Placement,
  nodes: readonly NodeFacts[],
): string[] {
  const { stages, options } = placement;
  const lines: string[] = [];
  if (options.cuts !== undefined) lines.push('The boundaries are the ones that were asked for.');
  else if (stages.length > 1)
    lines.push(
      model.allowedCuts.length === model.layers.length - 1
        ? `This model can be cut before any of its ${model.layers.length} layers.`
        : `This architecture allows ${model.allowedCuts.length} of ${model.layers.length - 1} cuts: ${cutList(model)}.`,
    );
  lines.push(...stages.map((stage) => stageLine(model, placement, stage)));
  if (placement.unused.length > 0)
    lines.push(`${placement.unused.join(', ')}: empty, because a stage there would slow the rest.`);
  lines.push(
    'Weights and KV cache follow from the file; compute buffers from what llama.cpp reserves for such graphs.',
    ...speed(model, placement, nodes),
    ...sending(placement),
  );
  return lines;
}

/** "mini-2: layers 8–15. Reads 5.1 GiB a token in 27 ms, the slowest. Limit: memory (another layer …)". */
function stageLine(model: ModelFacts, placement: Placement, stage: StagePlacement): string {
  const { stages } = placement;
  const [first, end] = stage.layers;
  const inLayers = model.layers
    .slice(first, end)
    .reduce((sum, layer) => sum + layer.activeBytes, 0);
  const active = inLayers + (end === model.layers.length ? model.headBytes : 0);
  const extra = [
    ...(first === 0
      ? [`the embeddings (${formatBytes(model.embeddingBytes)}) and the text engine`]
      : []),
    ...(end === model.layers.length ? [`the output matrix (${formatBytes(model.headBytes)})`] : []),
  ];
  const also = extra.length > 0 ? ` and ${extra.join(', ')}` : '';
  const doing = stage.waitsFor === 'compute' ? 'computes longer than it reads:' : 'a token reads';
  const time = placement.costInSeconds ? ` in ${milliseconds(stage.cost)}` : '';
  const slowest = stages.length > 1 && stage.cost === placement.slowestCost ? ', the slowest' : '';
  return `${stage.node}: ${end - first} layers${also}; ${doing} ${formatBytes(active)}${time}${slowest}. ${limitOf(model, placement, stage, inLayers / active)}`;
}

/** What keeps the stage from having more layers. `share`: of its cost, what is not the output matrix's. */
function limitOf(
  model: ModelFacts,
  placement: Placement,
  stage: StagePlacement,
  share: number,
): string {
  const { options, stages, slowestCost } = placement;
  if (stages.length === 1) return 'It has the whole model.';
  if (options.cuts !== undefined) return '';
  const memory = stageMemoryTable(model, options);
  const [first, end] = stage.layers;
  const grown = [
    ...(first > 0 ? [[first - 1, end] as const] : []),
    ...(end < model.layers.length ? [[first, end + 1] as const] : []),
  ];
  const least = Math.min(...grown.map(([from, to]) => memory(from, to).total));
  if (least > stage.budgetBytes)
    return `Its limit is memory: another layer would make it ${formatBytes(least)} of ${formatBytes(stage.budgetBytes)}.`;
  const perLayer = (stage.cost * share) / (end - first);
  return stage.cost + perLayer > slowestCost
    ? `Its limit is speed: with another layer it would be the slowest.`
    : 'It could take more, but no placement that fits would be quicker for it.';
}

function speed(model: ModelFacts, placement: Placement, nodes: readonly NodeFacts[]): string[] {
  if (!placement.costInSeconds)
    return ['No speed is predicted: the bandwidth of a node is unknown.'];
  const used = placement.stages.flatMap(({ node, layers }) => {
    const facts = nodes.find(({ name }) => name === node);
    return facts === undefined ? [] : [{ node: facts, layers }];
  });
  const prompt = promptSeconds(model, used);
  const hops =
    placement.hopCost > 0 ? `, ${milliseconds(placement.hopCost)} of it between nodes` : '';
  const looked = used.some(({ node }) => node.speedSource === 'looked_up');
  return [
    `Predicted: ${rate(1 / placement.totalCost)} tokens/s for one conversation (${milliseconds(placement.totalCost)} a token${hops}), ${rate(1 / placement.slowestCost)} together when every stage is busy.`,
    ...(prompt === undefined || prompt === 0
      ? []
      : [`Prompts: about ${rate(1 / prompt)} tokens/s through the slowest stage.`]),
    ...(looked
      ? ['Speeds follow from the chips’ names, not from measurement: they may be off by a quarter.']
      : []),
    ...(used.every(({ node }) => node.speedSource === 'measured')
      ? [
          `Speeds were measured by an engine on each node${placement.hopCost > 0 || used.length < 2 ? '' : '; the way between them is not counted'}.`,
        ]
      : []),
  ];
}

function sending(placement: Placement): string[] {
  const seconds = sendingSeconds(placement);
  const bytes = placement.stages
    .filter(({ node }) => node !== placement.options.network?.coordinator)
    .reduce((sum, { memory }) => sum + memory.weights, 0);
  return seconds === undefined || seconds === 0
    ? []
    : [
        `Sending ${formatBytes(bytes)} to the nodes the first time takes about ${formatDuration(seconds)}.`,
      ];
}

/** What has to be typed where, and what it is for. */
export function raiseLines(raises: readonly Raise[]): string[] {
  return raises.map(
    ({ node, command, nowBytes, limitBytes }) =>
      `${node}: ${command}   (${formatBytes(nowBytes)} now, ${formatBytes(limitBytes)} then)`,
  );
}

const milliseconds = (seconds: number): string =>
  seconds >= 0.0995 ? `${(seconds * 1000).toFixed(0)} ms` : `${(seconds * 1000).toPrecision(2)} ms`;
const rate = (value: number): string => (value >= 99.5 ? value.toFixed(0) : value.toPrecision(2));

function cutList(model: ModelFacts): string {
  const cuts = model.allowedCuts;
  return cuts.length > 12 ? `${cuts.slice(0, 10).join(', ')} … ${cuts.at(-1)}` : cuts.join(', ');
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
