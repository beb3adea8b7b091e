// What of a stream of attempts is written down: bounded lines, a true count, one record that says it was the last straw.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ViolationKind } from '../src/index.ts';
import { Recorder, recordBytesMax } from '../src/warden/recorder.ts';

const attempt = (operation: string, kind: ViolationKind = 'network') => ({
  kind,
  operation,
  target: 'x',
});
const recorder = (limits = {}): Recorder =>
  new Recorder(
    'instance',
    'stage',
    { violations_max: 100, reports_per_kind_max: 5, ...limits },
    () => 12.5,
  );

describe('Recorder', () => {
  it('five lines of a kind, then counts', () => {
    const r = recorder();
    const lines = Array.from({ length: 12 }, () => r.record(attempt('connect')).violation);
    expect(lines.filter((v) => v !== undefined)).toHaveLength(5);
    expect(r.record(attempt('bind')).violation).toMatchObject({
      operation: 'bind',
      count: 1,
      sequence: 6,
    });
    expect(r.flush('end')).toMatchObject([
      { operation: 'connect', count: 7, target: '', sequence: 7 },
    ]);
    expect(r.flush('end')).toEqual([]);
  });

  it('the one that reaches the limit is always recorded, as stopped', () => {
    const r = recorder({ violations_max: 20 });
    const results = Array.from({ length: 20 }, () => r.record(attempt('connect')));
    expect(results.map((x) => x.stop)).toEqual([...Array.from({ length: 19 }, () => false), true]);
    expect(results.at(-1)?.violation).toMatchObject({ stopped: true });
  });

  it('nothing is lost and nothing grows, whatever comes', () => {
    const operations = fc.constantFrom('connect', 'openat', 'socket', 'kill', 'clone');
    fc.assert(
      fc.property(fc.array(fc.option(operations), { maxLength: 400 }), (stream) => {
        const r = recorder({ violations_max: 1e9 });
        const sent = stream.flatMap((operation) =>
          operation === null
            ? r.flush('pause')
            : [r.record(attempt(operation)).violation].filter((v) => v !== undefined),
        );
        const all = [...sent, ...r.flush('end')];
        expect(all.reduce((sum, v) => sum + v.count, 0)).toBe(
          stream.filter((o) => o !== null).length,
        );
        expect(all.map((v) => v.sequence)).toEqual(all.map((_, i) => i + 1));
      }),
    );
  });

  it('an engine that goes on for hours writes no more than one that ends soon', () => {
    const r = recorder({ violations_max: 1e9 });
    let bytes = 0;
    for (let second = 0; second < 4_000; second++) {
      for (let i = 0; i < 10; i++) r.record(attempt('connect'));
      bytes += r.flush('pause').reduce((sum, v) => sum + JSON.stringify(v).length, 0);
    }
    expect(bytes).toBeLessThan(17 * 1024);
    expect(bytes).toBeGreaterThan(8 * 1024);
    expect(r.flush('end').map((v) => v.count)).toEqual([expect.any(Number)]);
    expect(r.total).toBe(40_000);
  });

  it('16 KB of records for an engine, more for a canary that asks for it', () => {
    const r = recorder({ violations_max: 1e9, reports_per_kind_max: 1e6 });
    expect(recordBytesMax({ violations_max: 1, reports_per_kind_max: 5 })).toBe(16 * 1024);
    let bytes = 0;
    const small = recorder({ violations_max: 1e9 });
    for (let i = 0; i < 1_000; i++) {
      const { violation } = small.record({
        kind: 'read',
        operation: `op${i}`,
        target: 'y'.repeat(1_000),
      });
      bytes += violation === undefined ? 0 : JSON.stringify(violation).length;
      if (violation !== undefined) expect(violation.target.length).toBeLessThanOrEqual(300);
    }
    expect(bytes).toBeLessThan(17 * 1024);
    expect(r.total).toBe(0);
  });
});
