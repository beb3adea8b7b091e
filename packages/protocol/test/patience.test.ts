/** A start that hangs is told from one that starves: by what was reported, and by what its processes do. */
import { expect, it } from 'vitest';
import { LOOK_MS, Patience, isAsleep } from '../src/patience.ts';

const LIMITS = { silence_ms_max: 10_000, total_ms_max: 60_000 };

/** Looks every LOOK_MS until it has enough; returns after how many milliseconds, and why. */
function until(patience: Patience, from: number, limitMs = 100_000): [number, string] {
  for (let now = from + LOOK_MS; now <= from + limitMs; now += LOOK_MS) {
    const verdict = patience.look(now);
    if (verdict !== 'wait') return [now - from, verdict];
  }
  return [limitMs, 'wait'];
}

it('ends a start in which nothing is reported while every process sleeps', () => {
  expect(until(new Patience(LIMITS, 0, () => true), 0)).toEqual([10_000, 'silent']);
});

it('waits for one whose processes want a processor, up to the total', () => {
  const patience = new Patience(LIMITS, 0, () => false);
  patience.progress(1);
  expect(until(patience, 0)).toEqual([60_000, 'too long']);
});

it('begins the silence anew with each step that is reported', () => {
  const patience = new Patience(LIMITS, 0, () => true);
  expect(until(patience, 0, 9_000)).toEqual([9_000, 'wait']);
  patience.progress();
  expect(until(patience, 9_000)).toEqual([10_000, 'silent']);
});

it('does not count time in which we were stopped ourselves', () => {
  const patience = new Patience(LIMITS, 0, () => true);
  expect(patience.look(1_000_000)).toBe('wait');
});

it('sees that this process, which is running, is not asleep', () => {
  expect(isAsleep(process.pid)).toBe(process.platform !== 'linux');
});
