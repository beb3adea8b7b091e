// Refused attempts on their way into the log: in order, each once, a flood as counts, and nothing lost while they can't
// be written down.
import { Violation } from '@minikeep/protocol/v1';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ViolationKeeper } from '../src/violation-keeper.ts';
import { recordOf, violationOf } from '../src/violation-record.ts';

const violation = (node: string, rest: Partial<Violation> = {}): Violation =>
  Violation.create({
    node,
    kind: 'network',
    operation: 'connect',
    target: 'inet 192.0.2.7:443',
    targetLength: 18,
    targetDigest: 'ab'.repeat(8),
    instance: 'i',
    sequence: 1,
    count: 1,
    seenBy: ['warden'],
    refusedBy: 'warden',
    ...rest,
  });

let now = 0;
let broken = false;
let kept: Violation[] = [];
const faults: unknown[] = [];
const make = (): ViolationKeeper =>
  new ViolationKeeper({
    keep(batch) {
      if (broken) throw new Error('full');
      kept.push(...batch);
      return batch.map((_, i) => kept.length - batch.length + i + 1);
    },
    onKept: (one) => told.push(one.number),
    onFault: (fault) => faults.push(fault),
    now: () => now,
  });
let told: number[] = [];
const count = (): number => kept.reduce((sum, one) => sum + one.count, 0);

beforeEach(() => {
  vi.useFakeTimers();
  [now, broken, kept, told] = [0, false, [], []];
  faults.length = 0;
});
afterEach(() => void vi.useRealTimers());

/** Time passes, for both clocks. */
function pass(ms: number): void {
  for (let left = ms; left > 0; left -= 100) {
    now += 100;
    vi.advanceTimersByTime(100);
  }
}

describe('a keeper', () => {
  it('keeps each once, in order, with its number', () => {
    const keeper = make();
    for (let i = 1; i <= 5; i++) keeper.add(violation('a', { sequence: i }));
    pass(300);
    expect(kept.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5]);
    expect(told).toEqual([1, 2, 3, 4, 5]);
  });

  it('makes counts of a flood, of one node only, and loses none', () => {
    const keeper = make();
    for (let i = 0; i < 1_000_000; i++) keeper.add(violation('a'));
    keeper.add(violation('b'));
    pass(60_000);
    expect(count()).toBe(1_000_001);
    expect(kept.length).toBeLessThan(300);
    expect(kept.some(({ node, target }) => node === 'b' && target !== '')).toBe(true);
    const folded = kept.filter(({ count: times }) => times > 1);
    expect(folded.every(({ target, targetDigest }) => target === '' && targetDigest === '')).toBe(
      true,
    );
  });

  it('says so while they can not be written down, and goes on by itself', () => {
    const keeper = make();
    broken = true;
    for (let i = 0; i < 10_000; i++) keeper.add(violation('a'));
    pass(5_000);
    expect([kept.length, String(faults.at(-1))]).toEqual([0, 'Error: full']);
    broken = false;
    pass(120_000);
    expect([count(), faults.at(-1)]).toEqual([10_000, undefined]);
  });

  it('keeps all of them, whatever comes when', () => {
    const step = fc.oneof(
      fc.record({ node: fc.constantFrom('a', 'b'), many: fc.integer({ min: 1, max: 400 }) }),
      fc.constant('break' as const),
      fc.constant('mend' as const),
      fc.integer({ min: 1, max: 30 }).map((n) => n * 100),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        [kept, broken] = [[], false];
        const keeper = make();
        let added = 0;
        for (const one of steps)
          if (one === 'break') broken = true;
          else if (one === 'mend') broken = false;
          else if (typeof one === 'number') pass(one);
          else
            for (let i = 0; i < one.many; i++) {
              keeper.add(violation(one.node));
              added++;
            }
        broken = false;
        pass(60_000);
        keeper.close();
        expect(count()).toBe(added);
      }),
      { numRuns: 50 },
    );
  });
});

it('a violation comes out of the log as it went in', () => {
  const full = violation('a', {
    deployment: 'r1',
    epoch: 3,
    purpose: 'stage',
    atSeconds: 12.5,
    thread: 77,
    payloadBytes: 4_096,
    stopped: true,
  });
  for (const one of [full, violation('a', { targetDigest: '', targetLength: 0 })]) {
    const data = JSON.parse(JSON.stringify(recordOf(one))) as Record<string, unknown>;
    expect(violationOf({ number: 9, data })).toEqual({ ...one, number: 9 });
  }
});
