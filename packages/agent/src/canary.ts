/** The canary on this node, one run at a time, as a stream of what it tried. */
import { runCanary, type SandboxPlatform } from '@minikeep/containment';
import { MinikeepError } from '@minikeep/protocol';
import type { CanaryResponse } from '@minikeep/protocol/v1';
import { attemptMessage, reportMessage } from './canary-message.ts';
import type { AgentConfig } from './config.ts';
import { OneAtATime } from './one-at-a-time.ts';

export interface NodeCanary {
  run(signal: AbortSignal): AsyncIterable<CanaryResponse>;
}

/** More than a whole checklist, so that a slow reader loses nothing. */
const EVENTS_MAX = 5_000;

/** Fails with `canary.busy` while another run is under way, else as `runCanary`. */
export function nodeCanary(
  platform: SandboxPlatform,
  config: Pick<AgentConfig, 'node' | 'program_folder' | 'store'>,
): NodeCanary {
  const runs = new OneAtATime<CanaryResponse>(
    EVENTS_MAX,
    () =>
      new MinikeepError('canary.busy', `node ${config.node} is trying its canary already`, {
        next: 'Wait for that run to end, then try again.',
      }),
  );
  return {
    run: (asked) =>
      runs.run(asked, async (push, signal) => {
        const report = await runCanary(platform, {
          signal,
          programs: config.program_folder,
          cache: config.store.folder,
          onAttempt: (attempt) =>
            push({ event: { $case: 'attempt', value: attemptMessage(attempt) } }),
        });
        push({ event: { $case: 'report', value: reportMessage(report, config.node) } });
      }),
  };
}
