/** `minikeep plan`: where a model's layers would go, and whether they fit. Loads nothing. */
import {
  STACK_BYTES_MAX,
  explain,
  parseStack,
  placementTable,
  stackNetwork,
  stackNodes,
  type ModelFacts,
  type Placement,
  type Stack,
} from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { open } from 'node:fs/promises';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { LOCAL_NODES_DEFAULT } from '../defaults.ts';
import { planLocally, planOn, type Planned } from '../local-plan.ts';
import { knownModels, modelFile } from '../models.ts';

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
  const file = modelFile(name, knownModels(distFolder), distFolder);
  const { facts, placement } =
    flags.nodes === undefined
      ? await planLocally(file, localNodes(flags), flags)
      : await planOnStack(file, parseStack(await readText(flags.nodes), flags.nodes), flags);
  if (flags.json === true) await terminal.json(toDocument(facts, placement));
  else {
    for (const line of placementTable(facts, placement)) await terminal.line(line);
    if (flags.explain === true)
      for (const line of ['', ...explain(facts, placement)]) await terminal.line(line);
  }
  return EXIT.ok;
}

/** Without cuts the machines may stand in any order, and one that would only be in the way stays empty. */
const planOnStack = (file: string, stack: Stack, flags: PlanFlags): Promise<Planned> =>
  planOn(file, stackNodes(stack), flags, {
    anyOrder: flags.cuts === undefined,
    useEveryNode: flags.cuts !== undefined,
    network: stackNetwork(stack),
  });

const localNodes = (flags: PlanFlags): number =>
  flags.local ?? (flags.cuts === undefined ? LOCAL_NODES_DEFAULT : flags.cuts.length + 1);

async function readText(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const buffer = Buffer.alloc(STACK_BYTES_MAX + 1);
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
