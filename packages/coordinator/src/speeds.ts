/** Nodes measured one after the other, so that those of one machine don't disturb each other. */
import type { MeasureNodesResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** An engine's start, a file of 140 MB, a dozen steps on a busy machine. */
const MEASURE_TIMEOUT_MS = 300_000;

/** Throws the first node's fault. */
export async function* measureNodes(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): AsyncGenerator<MeasureNodesResponse, void, undefined> {
  for (const node of nodes) {
    await node.reachable();
    const limited = deadline(MEASURE_TIMEOUT_MS, signal);
    const { speed } = await node.agent.measure({}, { signal: limited });
    node.measured(speed);
    yield { node: node.name, speed };
  }
}
