/** From a stack file's machines to what the planner asks of nodes. */
import type { NodeFacts } from '../types.ts';
import { CHIPS, defaultWiredLimit, highestWiredLimit, linuxBudget } from './hardware.ts';
import type { Stack, StackNode } from './schema.ts';

/** The stack's nodes, in the file's order. */
export function stackNodes(stack: Stack): NodeFacts[] {
  return stack.nodes.map((node) => nodeFacts(node, stack));
}

function nodeFacts(node: StackNode, { network }: Stack): NodeFacts {
  const { hardware } = node;
  const chip = CHIPS.find(({ name }) => name === hardware.chip);
  const memoryBytesPerSecond = hardware.memory_per_second ?? chip?.memoryBytesPerSecond;
  return {
    name: node.name,
    budgetBytes: budgetOf(node),
    ...(memoryBytesPerSecond === undefined ? {} : { memoryBytesPerSecond }),
    ...(network === undefined
      ? {}
      : {
          link: {
            latencySeconds: network.latency_seconds,
            bytesPerSecond: network.bytes_per_second,
          },
        }),
  };
}

function budgetOf({ platform, hardware }: StackNode): number {
  if (hardware.budget !== undefined) return hardware.budget;
  if (platform === 'linux') return linuxBudget(hardware.memory);
  const limit = hardware.wired_limit ?? defaultWiredLimit(hardware.memory);
  // A limit above what the system leaves is a promise that nobody keeps.
  return Math.min(limit, highestWiredLimit(hardware.memory));
}
