/** The canary on several nodes, one after the other, as one stream. */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { RunCanaryResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** All attempts of one node; on macOS each is repeated, paced. */
const CANARY_TIMEOUT_MS = 180_000;

export async function* runCanaries(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): AsyncGenerator<RunCanaryResponse, void, undefined> {
  const faults: { readonly node: string; readonly error: MinikeepError }[] = [];
  for (const node of nodes)
    try {
      yield* runOne(node, signal);
    } catch (thrown) {
      signal.throwIfAborted();
      // What the others report is worth having.
      faults.push({ node: node.name, error: toMinikeepError(thrown) });
    }
  const [first] = faults;
  if (first === undefined) return;
  if (nodes.length === 1) throw first.error;
  throw new MinikeepError(
    'canary.not_run',
    `the canary did not run to its end on ${faults.map(({ node }) => node).join(', ')}: ${first.error.message}`,
    { next: first.error.next, exitCode: first.error.exitCode, cause: first.error },
  );
}

async function* runOne(
  node: NodeLink,
  signal: AbortSignal,
): AsyncGenerator<RunCanaryResponse, void, undefined> {
  await node.reachable();
  const limited = deadline(CANARY_TIMEOUT_MS, signal);
  for await (const { event } of node.agent.canary({}, { signal: limited })) {
    if (event?.$case === 'attempt')
      yield { event: { $case: 'attempt', value: { node: node.name, attempt: event.value } } };
    else if (event?.$case === 'report') yield { event };
  }
}
