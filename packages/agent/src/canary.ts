/**
 * The canary on this node, one run at a time, as a stream of what it tried. What came of the last one is remembered for
 * as long as the agent runs: its engines live no longer than it.
 */
import { setTimeout as setTimer } from 'node:timers/promises';
import { runCanary, type CanaryReport, type SandboxPlatform } from '@minikeep/containment';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { CanaryState, type CanaryEvidence, type CanaryResponse } from '@minikeep/protocol/v1';
import { attemptMessage, reportMessage } from './canary-message.ts';
import type { AgentConfig } from './config.ts';
import { OneAtATime } from './one-at-a-time.ts';

export interface NodeCanary {
  run(signal: AbortSignal): AsyncIterable<CanaryResponse>;
  /** The last one that ended. */
  last(): CanaryEvidence | undefined;
  /**
   * Returns at once when one that held began within `maxAgeMs`, else when one has ended. Throws `canary.failed`: what it
   * is asked for must not run.
   */
  ensure(maxAgeMs: number, signal: AbortSignal): Promise<void>;
}

/** More than a whole checklist, so that a slow reader loses nothing. */
const EVENTS_MAX = 5_000;
const BUSY_PAUSE_MS = 200;
const WHY_LENGTH_MAX = 500;

interface Ended {
  readonly begunMs: number;
  readonly state: CanaryState;
  readonly attempts: number;
  readonly why: string;
}

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
  let last: Ended | undefined;
  const run = (asked: AbortSignal): AsyncGenerator<CanaryResponse, void, undefined> =>
    runs.run(asked, async (push, signal) => {
      const begunMs = performance.now();
      const ended = (state: CanaryState, attempts: number, why: string): void => {
        last = { begunMs, state, attempts, why: why.slice(0, WHY_LENGTH_MAX) };
      };
      try {
        const report = await runCanary(platform, {
          signal,
          programs: config.program_folder,
          cache: config.store.folder,
          onAttempt: (attempt) =>
            push({ event: { $case: 'attempt', value: attemptMessage(attempt) } }),
        });
        ended(STATES[report.state], report.attempts.length, whyOf(report));
        push({ event: { $case: 'report', value: reportMessage(report, config.node) } });
      } catch (thrown) {
        // Called off: nothing was found out.
        if (!signal.aborted)
          ended(CanaryState.CANARY_STATE_BROKEN, 0, toMinikeepError(thrown).message);
        throw thrown;
      }
    });
  const goodFor = (maxAgeMs: number): boolean =>
    last !== undefined &&
    performance.now() - last.begunMs <= maxAgeMs &&
    (last.state === CanaryState.CANARY_STATE_PASSED ||
      last.state === CanaryState.CANARY_STATE_BLIND);
  return {
    run,
    last: () =>
      last && {
        state: last.state,
        attempts: last.attempts,
        why: last.why,
        ageSeconds: (performance.now() - last.begunMs) / 1000,
      },
    async ensure(maxAgeMs, signal) {
      const askedMs = performance.now();
      while (!goodFor(maxAgeMs + performance.now() - askedMs)) {
        try {
          // Only its end is of interest.
          for await (const _ of run(signal));
          break;
        } catch (thrown) {
          signal.throwIfAborted();
          if (toMinikeepError(thrown).code !== 'canary.busy') throw thrown;
          await setTimer(BUSY_PAUSE_MS, undefined, { signal });
        }
      }
      if (last?.state === CanaryState.CANARY_STATE_FAILED)
        throw canaryFailed(config.node, last.why);
    },
  };
}

const STATES: Readonly<Record<CanaryReport['state'], CanaryState>> = {
  passed: CanaryState.CANARY_STATE_PASSED,
  failed: CanaryState.CANARY_STATE_FAILED,
  blind: CanaryState.CANARY_STATE_BLIND,
};

/** The names of what did not hold: ours, not an attacker's. */
function whyOf({ attempts, inspections, state }: CanaryReport): string {
  const bad =
    state === 'failed'
      ? [
          ...attempts.filter(({ refused }) => !refused).map(({ name }) => name),
          ...inspections.filter(({ ok }) => !ok).map(({ name }) => name),
        ]
      : attempts
          .filter(({ reported, refused_outside: outside }) => !reported && !outside)
          .map(({ name }) => name);
  const what = state === 'failed' ? 'not refused' : 'not seen';
  return bad.length === 0 ? '' : `${what}: ${bad.join(', ')}`;
}

const canaryFailed = (node: string, why: string): MinikeepError =>
  new MinikeepError('canary.failed', `the canary found a way out on node ${node} (${why})`, {
    next: `No engine is started there. See \`minikeep canary --node ${node}\`, mend what it names, then deploy again.`,
  });
