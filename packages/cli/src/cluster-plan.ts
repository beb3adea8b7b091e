/** The nodes of a running cluster as the planner takes them: what they have now, and how fast they were measured. */
import {
  defaultWiredLimit,
  highestWiredLimit,
  measuredNetwork,
  type NodeFacts,
  type PlanOptions,
} from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { ModelCheck, NodeStatus } from '@minikeep/protocol/v1';
import { exactnessOf } from './model-check-state.ts';
import type { OperatorConnection } from './operator-connection.ts';

/** As the coordinator keeps it for the system and the trusted processes. */
const RESERVE_BYTES = 512 * 1024 * 1024;

export interface ClusterNodes extends Pick<PlanOptions, 'network' | 'useEveryNode'> {
  readonly nodes: NodeFacts[];
  /** By node's name. */
  readonly checks: ReadonlyMap<string, ModelCheck | undefined>;
}

/**
 * The nodes that are up and in service, in the order in which `up` uses them. `onMeasure` given: each is measured first.
 * Errors: `plan.no_nodes`, `measure.*`.
 */
export async function clusterNodes(
  { operator }: OperatorConnection,
  signal: AbortSignal,
  onMeasure?: (node: string) => void,
): Promise<ClusterNodes> {
  if (onMeasure !== undefined)
    for await (const { node } of operator.measureNodes({ node: '' }, { signal })) onMeasure(node);
  const status = await operator.status({});
  const there = status.nodes.filter(({ reachable, draining }) => reachable && !draining);
  if (there.length === 0)
    throw new MinikeepError('plan.no_nodes', 'no node of the cluster is up and in service', {
      next: 'See `minikeep nodes`.',
      exitCode: EXIT.unreachable,
    });
  return {
    nodes: there.map(factsOf),
    checks: new Map(there.map(({ node, modelCheck }) => [node, modelCheck])),
    useEveryNode: true,
    network: {
      ...measuredNetwork(there.map(({ node: name, links: ways }) => ({ name, ways }))),
      ...(status.coordinatorNode === '' ? {} : { coordinator: status.coordinatorNode }),
    },
  };
}

function factsOf(node: NodeStatus): NodeFacts {
  const { speed, memoryBytes } = node;
  const modelCheck = exactnessOf(node.modelCheck);
  const speeds: Partial<NodeFacts> =
    speed === undefined
      ? { modelCheck }
      : {
          modelCheck,
          memoryBytesPerSecond: speed.memoryBytesPerSecond,
          operationsPerSecond: speed.operationsPerSecond,
          speedSource: 'measured',
        };
  if (!node.platform.startsWith('darwin'))
    return {
      name: node.node,
      budgetBytes: Math.max(0, node.memoryAvailableBytes - RESERVE_BYTES),
      ...speeds,
    };
  const highestBytes = highestWiredLimit(memoryBytes);
  const limit = node.wiredLimitBytes || defaultWiredLimit(memoryBytes);
  return {
    name: node.node,
    budgetBytes: Math.min(limit, highestBytes),
    wiredLimit: { memoryBytes, highestBytes },
    ...speeds,
  };
}
