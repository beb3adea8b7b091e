/** The canary on several nodes, one after the other, as one stream. */
import type { RunCanaryResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** All attempts of one node; on macOS each is repeated, paced. */
const CANARY_TIMEOUT_MS = 180_000;

export async function* runCanaries(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): AsyncGenerator<RunCanaryResponse, void, undefined> {
  for (const node of nodes) {
    await node.reachable();
    const limited = deadline(CANARY_TIMEOUT_MS, signal);
    for await (const { event } of node.agent.canary({}, { signal: limited })) {
      if (event?.$case === 'attempt')
        yield {
          event: { $case: 'attempt', value: { node: node.name, attempt: event.value } },
        };
      else if (event?.$case === 'report') yield { event };
    }
  }
}
