/** `minikeep plan`: where a model's layers would go, and whether they fit. Loads nothing. */
import { openModel } from '@minikeep/gguf';
import {
  CLUSTER_CONFIG_BYTES_MAX,
  explain,
  modelFacts,
  parseClusterConfig,
  placementTable,
  plan,
  type ModelFacts,
  type NodeFacts,
  type Placement,
  type PlanOptions,
} from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { open } from 'node:fs/promises';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { CONTEXT_DEFAULT_MAX, LOCAL_NODES_DEFAULT } from '../defaults.ts';
import { localBudgetBytes } from '../local-memory.ts';
import { knownModels, modelFile } from '../models.ts';

const BATCH_ROWS = 512;

export interface PlanFlags extends CommonFlags {
  readonly nodes?: string;
  readonly local?: number;
  readonly cuts?: number[];
  readonly context?: number;
  readonly parallel: number;
  readonly mode: 'exact' | 'fast';
  readonly explain?: boolean;
}

export async function planCommand(
  { terminal, distFolder }: CommandContext,
  name: string,
  flags: PlanFlags,
): Promise<number> {
  if (flags.nodes !== undefined && flags.local !== undefined)
    throw new MinikeepError('usage.nodes', '--nodes and --local exclude each other', {
      next: 'Give one of them.',
      exitCode: EXIT.usage,
    });
  const model = await openModel(modelFile(name, knownModels(distFolder), distFolder));
  const facts = modelFacts(model);
  const options: PlanOptions = {
    contextTokens:
      flags.context ?? Math.min(CONTEXT_DEFAULT_MAX, facts.contextLength || CONTEXT_DEFAULT_MAX),
    parallel: flags.parallel,
    batchRows: BATCH_ROWS,
    mode: flags.mode,
    ...(flags.cuts === undefined ? {} : { cuts: flags.cuts }),
  };
  const { nodes, shared } = await nodesOf(flags);
  const placement = plan(facts, nodes, {
    ...options,
    ...(shared === undefined ? {} : { sharedBudgetBytes: shared }),
  });
  if (flags.json === true) await terminal.json(toDocument(facts, placement));
  else {
    for (const line of placementTable(facts, placement)) await terminal.line(line);
    if (flags.explain === true)
      for (const line of ['', ...explain(facts, placement)]) await terminal.line(line);
  }
  return EXIT.ok;
}

async function nodesOf(
  flags: PlanFlags,
): Promise<{ nodes: NodeFacts[]; shared: number | undefined }> {
  if (flags.nodes !== undefined)
    return {
      nodes: parseClusterConfig(await readText(flags.nodes), flags.nodes),
      shared: undefined,
    };
  const count =
    flags.local ?? (flags.cuts === undefined ? LOCAL_NODES_DEFAULT : flags.cuts.length + 1);
  const budgetBytes = await localBudgetBytes();
  const nodes = Array.from({ length: count }, (_, i) => ({ name: `node-${i + 1}`, budgetBytes }));
  return { nodes, shared: budgetBytes };
}

async function readText(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const buffer = Buffer.alloc(CLUSTER_CONFIG_BYTES_MAX + 1);
      const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new MinikeepError(
      'config.unreadable',
      `can't read ${file}: ${(cause as Error).message}`,
      {
        next: 'Give --nodes a YAML file that lists the nodes (minikeep plan --help shows one).',
        cause,
      },
    );
  }
}

function toDocument(facts: ModelFacts, placement: Placement): Record<string, unknown> {
  const { options } = placement;
  return {
    model: placement.model,
    architecture: facts.architecture,
    layers: facts.layers.length,
    cuts: placement.cuts,
    context_tokens: options.contextTokens,
    parallel: options.parallel,
    mode: options.mode,
    stages: placement.stages.map((stage) => ({
      node: stage.node,
      layers: stage.layers,
      weights_bytes: stage.memory.weights,
      kv_bytes: stage.memory.cache,
      compute_bytes: stage.memory.compute,
      process_bytes: stage.memory.process,
      total_bytes: stage.memory.total,
      budget_bytes: stage.budgetBytes,
    })),
    ...(placement.costInSeconds
      ? { token_seconds: placement.totalCost, slowest_stage_seconds: placement.slowestCost }
      : {}),
  };
}
