// Row 18's count: a thread that was let start counts before the kernel shows it, and never twice for long.
import { describe, expect, it } from 'vitest';
import { OPEN_START_MS_MAX, ThreadGate } from '../src/linux/threads.ts';

describe('ThreadGate', () => {
  let live = 1;
  let now = 0;
  const gate = (threads_max: number): ThreadGate => {
    live = 1;
    now = 0;
    return new ThreadGate({ threads_max, live: () => live, now: () => now });
  };

  it('threads that ask at once get no more than there is room for', () => {
    const g = gate(4);
    expect([1, 2, 3, 4, 5].map((tid) => g.mayStart(tid))).toEqual([true, true, true, false, false]);
  });

  it('a thread that asks again has its clone behind it: what the kernel shows is enough', () => {
    const g = gate(4);
    for (let i = 0; i < 3; i++) {
      g.asked(1);
      expect(g.mayStart(1)).toBe(true);
      live++;
    }
    g.asked(1);
    expect(g.mayStart(1)).toBe(false);
    live--; // one ends: there is room again
    expect(g.mayStart(1)).toBe(true);
  });

  it('a start of which nothing was seen is forgotten', () => {
    const g = gate(2);
    expect(g.mayStart(1)).toBe(true);
    expect(g.mayStart(2)).toBe(false);
    now = OPEN_START_MS_MAX + 1;
    expect(g.mayStart(2)).toBe(true);
  });
});
