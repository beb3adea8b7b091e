/** From a stack file's machines to what the planner asks of nodes. */
import type { LinkFacts, NetworkFacts, NodeFacts } from '../types.ts';
import {
  CHIPS,
  defaultWiredLimit,
  highestWiredLimit,
  linuxBudget,
  REACHED_COMPUTE_SHARE,
  REACHED_MEMORY_SHARE,
} from './hardware.ts';
import type { Stack, StackNode } from './schema.ts';

/** The stack's nodes, in the file's order. */
export function stackNodes(stack: Stack): NodeFacts[] {
  return stack.nodes.map((node) => ({
    name: node.name,
    budgetBytes: budgetOf(node),
    ...speedsOf(node),
    ...(node.platform === 'linux' || node.hardware.budget !== undefined
      ? {}
      : {
          wiredLimit: {
            memoryBytes: node.hardware.memory,
            highestBytes: highestWiredLimit(node.hardware.memory),
          },
        }),
  }));
}

/** How the stack's machines reach each other. */
export function stackNetwork(stack: Stack): NetworkFacts {
  const coordinator = stack.nodes.find((node) => node.role === 'coordinator')?.name;
  return {
    ...(stack.network === undefined ? {} : { fallback: linkOf(stack.network) }),
    pairs: stack.links.map(({ between, ...link }) => ({ between, link: linkOf(link) })),
    ...(coordinator === undefined ? {} : { coordinator }),
  };
}

const linkOf = (link: { latency_seconds: number; bytes_per_second: number }): LinkFacts => ({
  latencySeconds: link.latency_seconds,
  bytesPerSecond: link.bytes_per_second,
});

/** What the file states goes before what the chip's name says. */
function speedsOf({ hardware }: StackNode): Partial<NodeFacts> {
  const chip = CHIPS.find(({ name }) => name === hardware.chip);
  const memory =
    hardware.memory_per_second ??
    (chip === undefined ? undefined : chip.memoryBytesPerSecond * REACHED_MEMORY_SHARE);
  const compute =
    hardware.teraops === undefined
      ? chip === undefined
        ? undefined
        : chip.operationsPerSecond * REACHED_COMPUTE_SHARE
      : hardware.teraops * 1e12;
  return {
    ...(memory === undefined ? {} : { memoryBytesPerSecond: memory }),
    ...(compute === undefined ? {} : { operationsPerSecond: compute }),
    ...(memory === undefined
      ? {}
      : { speedSource: hardware.memory_per_second === undefined ? 'looked_up' : 'stated' }),
  };
}

function budgetOf({ platform, hardware }: StackNode): number {
  if (hardware.budget !== undefined) return hardware.budget;
  if (platform === 'linux') return linuxBudget(hardware.memory);
  const limit = hardware.wired_limit ?? defaultWiredLimit(hardware.memory);
  // A limit above what the system leaves is a promise that nobody keeps.
  return Math.min(limit, highestWiredLimit(hardware.memory));
}
