/** How fast nodes are: measured when an operator asks, and before the first model is placed on them. */
import type { MeasureNodesResponse, NodeSpeed } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** An engine's start, a file of 140 MB, a dozen steps on a busy machine. */
const MEASURE_TIMEOUT_MS = 300_000;

/** One after the other, so that nodes of one machine don't disturb each other. Throws the first node's fault. */
export async function* measureNodes(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): AsyncGenerator<MeasureNodesResponse, void, undefined> {
  for (const node of nodes) yield { node: node.name, speed: await measure(node, signal) };
}

async function measure(node: NodeLink, signal: AbortSignal): Promise<NodeSpeed | undefined> {
  await node.reachable();
  const limited = deadline(MEASURE_TIMEOUT_MS, signal);
  const { speed } = await node.agent.measure({}, { signal: limited });
  node.measured(speed);
  return speed;
}

/**
 * Measures nodes that never were: machines at once, the nodes of one machine in turn. One that can't be measured now (a
 * model is up there) counts as fast as the others, and is asked again the next time.
 */
export async function measureUnmeasured(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
  onNode: (node: string) => void,
): Promise<void> {
  const byMachine = Map.groupBy(
    nodes.filter(({ speed }) => speed === undefined),
    ({ hello }) => hello?.machine,
  );
  await Promise.all(
    [...byMachine.values()].map(async (ofOne) => {
      for (const node of ofOne) {
        await measure(node, signal).catch(() => signal.throwIfAborted());
        onNode(node.name);
      }
    }),
  );
}
