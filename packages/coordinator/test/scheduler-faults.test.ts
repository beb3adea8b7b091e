/** The scheduler when nothing comes back, or a fault does. */
import { describe, expect, it } from 'vitest';
import { MinikeepError } from '@minikeep/protocol';
import { SILENCE_MS_MIN, SILENCE_MS_UNKNOWN } from '../src/scheduler/silence.ts';
import type { SchedulerEffect } from '../src/scheduler/types.ts';
import { CONFIG, Driver, range } from './scheduler-driver.ts';
import { twin } from './simulated-pipeline.ts';

describe('silence', () => {
  const decoding = (): Driver => {
    const driver = new Driver({ ...CONFIG, contextTokens: 500, stages: 1 });
    driver.submit(1, range(6, 5), 300);
    driver.back();
    return driver;
  };
  const stalls = (driver: Driver): SchedulerEffect[] =>
    driver.effects.filter((e) => e.type === 'stalled');

  it('is reported once, after what such steps need and at least some seconds', () => {
    const driver = decoding();
    const tick = (afterMs: number): void =>
      driver.feed({ type: 'tick', nowMs: driver.nowMs + afterMs });
    tick(SILENCE_MS_MIN - 1);
    expect(stalls(driver)).toEqual([]);
    tick(SILENCE_MS_MIN + 1);
    tick(SILENCE_MS_MIN + 500);
    expect(stalls(driver)).toHaveLength(1);
    driver.feed({ type: 'still_working', nowMs: driver.nowMs + SILENCE_MS_MIN + 600 });
    tick(SILENCE_MS_MIN + 700);
    expect(stalls(driver)).toHaveLength(1);
    tick(2 * SILENCE_MS_MIN + 700);
    expect(stalls(driver)).toHaveLength(2);
  });

  it('is told in full however often the stages were found computing', () => {
    const driver = decoding();
    const silent: number[] = [];
    // A minute of ticks; each look finds an engine that uses its processor.
    for (let ms = 250; ms <= 60_000; ms += 250) {
      const before = stalls(driver).length;
      driver.feed({ type: 'tick', nowMs: driver.nowMs + ms });
      const stalled = stalls(driver)[before];
      if (stalled?.type !== 'stalled') continue;
      silent.push(stalled.silentMs);
      driver.feed({ type: 'still_working', nowMs: driver.nowMs + ms });
    }
    expect(silent.length).toBeGreaterThan(10);
    expect(silent.at(-1)).toBeGreaterThan(50_000);
    // A result ends the silence: the next one is counted from there.
    driver.nowMs += 60_000;
    driver.back();
    driver.feed({ type: 'tick', nowMs: driver.nowMs + 1_000_000 });
    expect(stalls(driver).at(-1)).toMatchObject({ silentMs: 1_000_000 });
  });

  it('may last longer before the speed is known', () => {
    const driver = new Driver(CONFIG);
    driver.submit(1, range(6), 3);
    driver.feed({ type: 'tick', nowMs: SILENCE_MS_UNKNOWN - 1 });
    expect(stalls(driver)).toEqual([]);
    driver.feed({ type: 'tick', nowMs: SILENCE_MS_UNKNOWN + 1 });
    expect(stalls(driver)).toHaveLength(1);
  });
});

describe('faults', () => {
  const error = new MinikeepError('engine.died', 'gone', { next: 'Deploy again.' });

  it('of the pipeline end every request once, and all that come later', () => {
    const driver = new Driver({ ...CONFIG, nSeqMax: 2 });
    for (const id of range(4)) driver.submit(id, range(5, id), 9);
    driver.feed({ type: 'fail', error, nowMs: 1 });
    driver.feed({ type: 'fail', error, nowMs: 2 });
    expect([...driver.ended.values()]).toEqual(Array.from({ length: 4 }, () => 'engine.died'));
    driver.submit(9, [1], 1);
    expect(driver.ended.get(9)).toBe('deployment.failed');
  });

  it('of one step end its sequences, not the others', () => {
    const driver = new Driver({ ...CONFIG, stages: 2, contextTokens: 500 });
    const first = driver.submit(1, range(4, 5), 6);
    driver.submit(2, range(4, 15), 6);
    const failing = driver.pipeline.inFlight.pop();
    driver.feed({ type: 'step_failed', step: failing?.step ?? -1, error, nowMs: 1 });
    driver.drain();
    const failed = [...driver.ended].filter(([, how]) => how === 'engine.died');
    expect(failed.length).toBeGreaterThan(0);
    if (driver.ended.get(1) !== 'engine.died')
      expect(driver.tokens.get(1)).toEqual(twin(first, 500).tokens);
    expect(driver.ended.size).toBe(2);
  });

  it('of a step that only closes end what waits for it, at once', () => {
    const driver = new Driver({ ...CONFIG, stages: 1 });
    driver.submit(1, range(4), 1);
    driver.back();
    // An engine that refuses whatever it is given.
    let refused = 0;
    for (; !driver.ended.has(1) && refused < 100; refused++) {
      const oldest = driver.pipeline.inFlight.shift();
      driver.feed({ type: 'step_failed', step: oldest?.step ?? -1, error, nowMs: 1 });
    }
    expect(driver.ended.get(1)).toBe('engine.died');
    expect(refused).toBe(1);
  });

  it('of a step that closes a slot leave the sequence that has it since', () => {
    const driver = new Driver({ ...CONFIG, nBatch: 64, stages: 3, nSeqMax: 2 });
    driver.submit(1, range(4), 30);
    driver.submit(2, range(4, 9), 30);
    driver.feed({ type: 'cancel', id: 1, nowMs: 1 });
    const closing = () =>
      driver.effects.find((e) => e.type === 'send' && e.ops.some((op) => op.op === 'close'));
    while (closing() === undefined) driver.back();
    // Its slot was closed together with a token of 2, and is opened by 3 while that step is under way.
    const third = driver.submit(3, range(5, 20), 3);
    const closed = closing();
    const number = closed?.type === 'send' ? closed.step : -1;
    const at = driver.pipeline.inFlight.findIndex((sent) => sent.step === number);
    driver.pipeline.inFlight.splice(at, 1);
    driver.feed({ type: 'step_failed', step: number, error, nowMs: driver.nowMs });
    driver.drain();
    expect(driver.ended.get(2)).toBe('engine.died');
    expect(driver.tokens.get(3)).toEqual(twin(third, CONFIG.contextTokens).tokens);
  });

  it('a result that was not due ends everything', () => {
    const driver = new Driver(CONFIG);
    driver.submit(1, range(4), 9);
    driver.feed({ type: 'result', step: 99, outputs: [], timings: [], nowMs: 1 });
    expect(driver.ended.get(1)).toBe('pipeline.malformed');
  });
});
