/** Which nodes get which layers of a model, by what they have now and how fast they were measured. */
import type { Model } from '@minikeep/gguf';
import { ExactMode, type ContextSettings, type HelloResponse } from '@minikeep/protocol/v1';
import {
  defaultWiredLimit,
  highestWiredLimit,
  measuredNetwork,
  modelFacts,
  planOrRaise,
  type NodeFacts,
} from '@minikeep/planner';
import type { DeploymentWish } from './deployment-plan.ts';
import type { NodeLink } from './node-link.ts';

/** Kept for the system and the trusted processes. */
const MEMORY_RESERVE_BYTES = 512 * 1024 * 1024;

export interface Placed {
  readonly cuts: readonly number[];
  /** Stage by stage. */
  readonly nodes: readonly NodeLink[];
}

/**
 * Cuts, and an order of the nodes, that the planner chooses; asked for cuts keep it, and are checked against memory as well. Agents of one machine share its
 * memory: a local cluster must not be promised the same bytes twice.
 */
export function placeLayers(
  model: Model,
  nodes: readonly NodeLink[],
  hellos: readonly HelloResponse[],
  context: ContextSettings,
  { cuts, freed, anyOrder = false }: Pick<DeploymentWish, 'cuts' | 'freed' | 'anyOrder'>,
): Placed {
  const used = cuts.length > 0 ? nodes.slice(0, cuts.length + 1) : nodes;
  const machines = new Set(hellos.map((hello) => hello.machine));
  // What one agent of a shared machine gives back, any of them can have.
  const allFreed = [...(freed?.values() ?? [])].reduce((sum, bytes) => sum + bytes, 0);
  const budgets = used.map((node, i) =>
    budgetOf(
      hellos[i],
      node.heartbeat?.memoryAvailableBytes,
      machines.size === 1 ? allFreed : freed?.get(node.name),
    ),
  );
  const placement = planOrRaise(
    modelFacts(model),
    used.map((node, i) => ({
      name: node.name,
      budgetBytes: budgets[i] ?? 0,
      ...speedOf(node),
      ...wiredLimitOf(hellos[i]),
    })),
    {
      contextTokens: context.nCtx,
      parallel: context.nSeqMax,
      batchRows: context.nBatch,
      mode: context.mode === ExactMode.EXACT_MODE_FAST ? 'fast' : 'exact',
      ...(cuts.length > 0 ? { cuts } : {}),
      ...(machines.size === 1 ? { sharedBudgetBytes: Math.min(...budgets) } : {}),
      anyOrder: anyOrder && cuts.length === 0,
      network: measuredNetwork(used.map(({ name, measuredLinks: ways }) => ({ name, ways }))),
    },
  );
  const placed = placement.stages.flatMap(({ node }) => used.filter(({ name }) => name === node));
  return { cuts: placement.cuts, nodes: placed };
}

/** What was measured there, if it was; nodes that were not all measured count as equal. */
const speedOf = ({ speed }: NodeLink): Partial<NodeFacts> =>
  speed === undefined
    ? {}
    : {
        memoryBytesPerSecond: speed.memoryBytesPerSecond,
        operationsPerSecond: speed.operationsPerSecond,
      };

/** Whether a Mac's GPU may be given more. */
function wiredLimitOf(hello: HelloResponse | undefined): Partial<NodeFacts> {
  if (hello?.platform.startsWith('darwin') !== true) return {};
  const { memoryBytes } = hello;
  return { wiredLimit: { memoryBytes, highestBytes: highestWiredLimit(memoryBytes) } };
}

/** macOS counts memory that only caches files as used: there, what the GPU may hold. */
function budgetOf(
  hello: HelloResponse | undefined,
  availableNow: number | undefined,
  freed = 0,
): number {
  if (hello === undefined) return 0;
  if (hello.platform.startsWith('darwin'))
    return Math.min(
      hello.wiredLimitBytes || defaultWiredLimit(hello.memoryBytes),
      highestWiredLimit(hello.memoryBytes),
    );
  return Math.max(0, (availableNow ?? hello.memoryAvailableBytes) + freed - MEMORY_RESERVE_BYTES);
}
