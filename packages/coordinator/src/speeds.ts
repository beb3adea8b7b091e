/** Nodes measured one after the other, so that those of one machine don't disturb each other. */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { MeasureNodesResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** An engine's start, a file of 140 MB, a dozen steps on a busy machine. */
const MEASURE_TIMEOUT_MS = 300_000;

/** Throws the first node's fault; one that is away as `measure.not_run`. */
export async function* measureNodes(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): AsyncGenerator<MeasureNodesResponse, void, undefined> {
  for (const node of nodes) {
    try {
      await node.reachable();
      const limited = deadline(MEASURE_TIMEOUT_MS, signal);
      const { speed } = await node.agent.measure({}, { signal: limited });
      node.measured(speed);
      yield { node: node.name, speed };
    } catch (thrown) {
      signal.throwIfAborted();
      const error = toMinikeepError(thrown);
      // Asked by an operator, this code would say that the coordinator is away.
      if (error.code !== 'node.unreachable') throw error;
      throw new MinikeepError('measure.not_run', `node ${node.name}: ${error.message}`, {
        next: error.next,
        exitCode: error.exitCode,
        cause: error,
      });
    }
  }
}
