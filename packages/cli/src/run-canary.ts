/** Runs the canary on nodes of a cluster and collects each node's report as it comes. */
import { MinikeepError } from '@minikeep/protocol';
import type { CanaryAttempt, CanaryReport } from '@minikeep/protocol/v1';
import type { Session } from './session.ts';

/** `node` empty: every node. Throws the node's error; resolves with one report a node. */
export async function runCanary(
  cluster: Session,
  node: string,
  signal: AbortSignal,
  heard: {
    readonly onAttempt: (attempt: CanaryAttempt, node: string) => void;
    readonly onReport?: (report: CanaryReport) => Promise<void>;
  },
): Promise<CanaryReport[]> {
  const reports: CanaryReport[] = [];
  for await (const { event } of cluster.operator.runCanary({ node }, { signal })) {
    if (event?.$case === 'attempt' && event.value.attempt !== undefined)
      heard.onAttempt(event.value.attempt, event.value.node);
    if (event?.$case !== 'report') continue;
    reports.push(event.value);
    await heard.onReport?.(event.value);
  }
  if (reports.length === 0)
    throw new MinikeepError('canary.no_report', 'the canary ended without a report', {
      next: 'Run the command again with --verbose.',
    });
  return reports;
}
