/** The canary on this node, one run at a time, as a stream of what it tried. */
import { runCanary, type SandboxPlatform } from '@minikeep/containment';
import { EventQueue, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { CanaryResponse } from '@minikeep/protocol/v1';
import { attemptMessage, reportMessage } from './canary-message.ts';
import type { AgentConfig } from './config.ts';

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
  let busy = false;
  return {
    async *run(signal) {
      if (busy)
        throw new MinikeepError('canary.busy', `node ${config.node} is trying its canary already`, {
          next: 'Wait for that run to end, then try again.',
        });
      busy = true;
      const ended = new AbortController();
      const events = new EventQueue<CanaryResponse>(EVENTS_MAX);
      const running = runCanary(platform, {
        signal: AbortSignal.any([signal, ended.signal]),
        programs: config.program_folder,
        cache: config.store.folder,
        onAttempt: (attempt) =>
          events.push({ event: { $case: 'attempt', value: attemptMessage(attempt) } }),
      }).then(
        (report) => {
          events.push({
            event: { $case: 'report', value: reportMessage(report, config.node) },
          });
          events.end();
        },
        (thrown: unknown) => events.end(toMinikeepError(thrown)),
      );
      try {
        yield* events;
      } finally {
        // Whoever stops listening ends the run; the next one waits until its processes are gone.
        ended.abort();
        await running;
        busy = false;
      }
    },
  };
}
