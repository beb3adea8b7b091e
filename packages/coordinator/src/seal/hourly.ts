/** A canary where the last one is an hour old, one node at a time: proof ages. */
import { setTimeout as setTimer } from 'node:timers/promises';
import { toMinikeepError, type Logger } from '@minikeep/protocol';
import { runCanaries } from '../canaries.ts';
import type { NodeLink } from '../node-link.ts';

const HOUR_SECONDS = 3_600;
/** How often it is looked for nodes whose turn it is. */
const LOOK_MS = 15_000;
/** A node that was just started is busy; `up` tries one of its own. */
const SETTLED_SECONDS = 120;
/** One that could not run is tried again after this. */
const RETRY_SECONDS = 300;

export interface Turn {
  readonly node: string;
  readonly up: boolean;
  readonly sandboxOff: boolean;
  /** Since its last canary began; undefined: none. */
  readonly canarySeconds: number | undefined;
  /** Since it was first seen up. */
  readonly upSeconds: number;
  /** Since it was tried in vain; undefined: never. */
  readonly failedSeconds: number | undefined;
}

/** Whose turn it is (pure): the one whose proof is the oldest. */
export function nextTurn(turns: readonly Turn[]): string | undefined {
  const due = turns.filter(
    ({ up, sandboxOff, canarySeconds, upSeconds, failedSeconds }) =>
      up &&
      !sandboxOff &&
      (canarySeconds === undefined
        ? upSeconds >= SETTLED_SECONDS
        : canarySeconds >= HOUR_SECONDS) &&
      (failedSeconds === undefined || failedSeconds >= RETRY_SECONDS),
  );
  const age = ({ canarySeconds }: Turn): number => canarySeconds ?? Infinity;
  return due.toSorted((a, b) => age(b) - age(a))[0]?.node;
}

/** Until the signal aborts. */
export async function tryHourly(
  nodes: () => readonly NodeLink[],
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  /** Since when each node is up, and when it was tried in vain, in monotonic milliseconds. */
  const since = new Map<string, number>();
  const failed = new Map<string, number>();
  while (!signal.aborted) {
    await setTimer(LOOK_MS, undefined, { signal, ref: false }).catch(() => {});
    if (signal.aborted) return;
    const now = performance.now();
    const turns = nodes().map((link): Turn => {
      if (!link.up) since.delete(link.name);
      else if (!since.has(link.name)) since.set(link.name, now);
      const seal = link.heartbeat?.seal;
      return {
        node: link.name,
        up: link.up && seal !== undefined,
        sandboxOff: seal?.sandboxOff === true,
        canarySeconds: seal?.canary?.ageSeconds,
        upSeconds: (now - (since.get(link.name) ?? now)) / 1000,
        failedSeconds: failed.has(link.name)
          ? (now - (failed.get(link.name) ?? now)) / 1000
          : undefined,
      };
    });
    const link = nodes().find(({ name }) => name === nextTurn(turns));
    if (link === undefined) continue;
    try {
      // What it found travels with the node's heartbeats.
      for await (const _ of runCanaries([link], signal));
      failed.delete(link.name);
    } catch (thrown) {
      if (signal.aborted) return;
      const { code, message } = toMinikeepError(thrown);
      log('warn', 'the hourly canary did not run', { node: link.name, code, error: message });
      failed.set(link.name, performance.now());
    }
  }
}
