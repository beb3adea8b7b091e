/** The canary on several nodes, one after the other, as one stream. */
import { setTimeout as setTimer } from 'node:timers/promises';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { RunCanaryResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** All attempts of one node; on macOS each is repeated, paced. Waiting for another run included. */
const CANARY_TIMEOUT_MS = 180_000;
/** A node tries one canary at a time. */
const BUSY_PAUSE_MS = 500;

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
  const untilMs = performance.now() + CANARY_TIMEOUT_MS;
  for (;;)
    try {
      for await (const { event } of node.agent.canary({}, { signal: limited })) {
        if (event?.$case === 'attempt')
          yield { event: { $case: 'attempt', value: { node: node.name, attempt: event.value } } };
        else if (event?.$case === 'report') yield { event };
      }
      return;
    } catch (thrown) {
      // Somebody else's run, of another command: ours comes after it. Nothing of ours was tried yet.
      if (toMinikeepError(thrown).code !== 'canary.busy' || performance.now() > untilMs)
        throw thrown;
      await setTimer(BUSY_PAUSE_MS, undefined, { signal: limited }).catch(() => {
        throw thrown;
      });
    }
}
