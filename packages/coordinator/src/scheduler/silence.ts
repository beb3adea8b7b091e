/**
 * How long the pipeline may be silent. Steps come back in order, so the time since the last one, while any is in
 * flight, is the measure; what is normal is learned from the steps so far, scaled by their rows.
 */
import type { SchedulerState } from './state.ts';

/** Times the slowest step known that silence may last. */
const SILENCE_FACTOR = 8;
export const SILENCE_MS_MIN = 4_000;
/** Before anything is known about the speed. Whoever looks then finds out whether the stages compute. */
export const SILENCE_MS_UNKNOWN = 10_000;
const SILENCE_MS_MAX = 120_000;
/** How fast an old slow step is forgotten, per step. */
const DECAY = 0.98;

/** Learns from a step that came back after `tookMs`. */
export function learnStepTime(state: SchedulerState, rows: number, tookMs: number): void {
  state.slowestStepMs = Math.max(tookMs, state.slowestStepMs * DECAY);
  state.slowestRowMs = Math.max(tookMs / rows, state.slowestRowMs * DECAY);
}

/** Milliseconds after which the oldest step in flight is overdue. */
export function silenceLimitMs(state: SchedulerState): number {
  const oldest = state.inFlight[0];
  if (oldest === undefined) return Infinity;
  if (state.slowestStepMs === 0) return SILENCE_MS_UNKNOWN;
  // A step much larger than any so far may take its rows' time.
  const usual = Math.max(state.slowestStepMs, state.slowestRowMs * oldest.rows);
  return Math.min(SILENCE_MS_MAX, Math.max(SILENCE_MS_MIN, usual * SILENCE_FACTOR));
}
