/** The scheduler against a simulated pipeline and a twin that answers every request alone. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MinikeepError } from '@minikeep/protocol';
import { chunkRows, pipelinedChunkRows } from '../src/scheduler/compose.ts';
import type { SchedulerRequest } from '../src/scheduler/types.ts';
import { CONFIG, Driver, range } from './scheduler-driver.ts';
import { HELD_BACK, twin } from './simulated-pipeline.ts';

describe('one request', () => {
  it('goes through in chunks that follow each other, then token by token', () => {
    const driver = new Driver(CONFIG);
    const request = driver.submit(1, range(20), 4);
    // Three chunks are under way before the first has come back.
    expect(driver.pipeline.rows).toEqual([8, 8, 4]);
    driver.drain();
    const expected = twin(request, CONFIG.contextTokens);
    expect(driver.tokens.get(1)).toEqual(expected.tokens);
    expect(driver.ended.get(1)).toBe(expected.finish);
    const done = driver.effects.find((e) => e.type === 'done');
    expect(done).toMatchObject({
      summary: {
        promptTokens: 20,
        completionTokens: 4,
        stages: range(3).map(() => ({ computeSeconds: 0.006, waitSeconds: 0.003 })),
      },
    });
  });

  it('cut at its length, lets out the text that was held back before it is done', () => {
    const driver = new Driver(CONFIG);
    driver.submit(1, range(20), 2);
    driver.drain();
    expect(driver.ended.get(1)).toBe('length');
    const [held, done] = driver.effects.slice(-2);
    expect(held).toMatchObject({ type: 'token', id: 1, counts: true });
    expect(held?.type === 'token' && Buffer.from(held.text).equals(HELD_BACK)).toBe(true);
    expect(done?.type).toBe('done');
    expect(driver.pipeline.openSlots).toBe(0);
  });

  it('that waits for its last text when the pipeline breaks ends with the reason', () => {
    const driver = new Driver(CONFIG);
    driver.submit(1, range(4), 1);
    driver.back();
    expect(driver.ended.has(1)).toBe(false);
    const error = new MinikeepError('node.lost', 'gone', { next: 'Look.' });
    driver.feed({ type: 'fail', error, nowMs: driver.nowMs });
    expect(driver.ended.get(1)).toBe('node.lost');
  });

  it('ends when the context is full', () => {
    const driver = new Driver({ ...CONFIG, contextTokens: 10 });
    const request = driver.submit(1, range(8, 3), 100);
    driver.drain();
    expect(twin(request, 10)).toEqual({ tokens: driver.tokens.get(1), finish: 'length' });
    // The prompt's 8, two computed again, one more that has no place.
    expect(driver.tokens.get(1)?.length).toBe(3);
  });

  it('may fill the context to the last place', () => {
    const driver = new Driver({ ...CONFIG, contextTokens: 10 });
    driver.submit(1, range(10), 100);
    driver.drain();
    expect(driver.ended.get(1)).toBe('length');
    expect(driver.tokens.get(1)?.length).toBe(1);
  });
});

describe('chunks', () => {
  it('are never one row, and never leave one, in exact mode', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.array(fc.nat(70)), (prompt, rooms) => {
        let remaining = prompt;
        for (const room of rooms) {
          const rows = chunkRows(remaining, room, true);
          expect(rows).toBeLessThanOrEqual(Math.min(room, remaining));
          if (prompt > 1 && rows > 0) expect(rows).toBeGreaterThan(1);
          remaining -= rows;
          if (remaining > 0 && prompt > 1) expect(remaining).toBeGreaterThan(1);
          if (remaining === 0) break;
        }
        // With enough room it always ends.
        while (remaining > 0) {
          const rows = chunkRows(remaining, 4, true);
          expect(rows).toBeGreaterThan(0);
          remaining -= rows;
        }
      }),
    );
  });

  it('fill the room in fast mode', () => {
    expect(chunkRows(9, 8, false)).toBe(8);
    expect(chunkRows(9, 8, true)).toBe(7);
  });

  it('are small enough that every stage has one', () => {
    for (const stages of [2, 3, 8]) {
      const config = { ...CONFIG, nBatch: 512, contextTokens: 4096, stages };
      const driver = new Driver(config);
      driver.submit(1, range(2048), 1);
      while (driver.effects.every((e) => e.type !== 'done')) driver.back();
      const rows = driver.effects.filter((e) => e.type === 'send').map((e) => e.tokens.length);
      expect(rows.reduce((sum, n) => sum + n, 0)).toBe(2048);
      const most = Math.max(...rows);
      // The stages wait for (stages - 1) chunks beside all chunks of the prompt; below 64 rows waiting is cheaper.
      expect(most <= 64 || (stages - 1) * most <= 2048 / 16).toBe(true);
    }
    expect(pipelinedChunkRows(2048, 1)).toBe(Infinity);
  });

  it('leave room while somebody decodes, and prompts take turns', () => {
    const config = { ...CONFIG, nBatch: 256, contextTokens: 4096, stages: 1 };
    const driver = new Driver(config);
    driver.submit(1, range(5, 7), 400);
    driver.back();
    const before = driver.pipeline.rows.length;
    driver.submit(2, range(600), 1);
    driver.submit(3, range(600, 9), 1);
    for (let i = 0; i < 6; i++) driver.back();
    const sent = driver.effects.filter((e) => e.type === 'send').slice(before + 1);
    for (const effect of sent) {
      // Every step takes the decoding sequence along and one chunk of a quarter.
      expect(effect.spans[0]).toMatchObject({ seq: 0, count: 1 });
      expect(effect.tokens.length).toBe(65);
    }
    const prompts = sent.map((effect) => effect.spans[1]?.seq);
    expect(new Set(prompts)).toEqual(new Set([1, 2]));
    for (let i = 1; i < prompts.length; i++) expect(prompts[i]).not.toBe(prompts[i - 1]);
  });
});

describe('decoding sequences', () => {
  it('are dealt out over the stages', () => {
    const config = { ...CONFIG, nSeqMax: 6, nBatch: 64, contextTokens: 300, queueMax: 10 };
    const driver = new Driver(config);
    for (const id of range(6)) driver.submit(id, range(3, id * 7), 200);
    for (let i = 0; i < 30; i++) driver.back();
    const live = [...driver.state.active.values()].length;
    const last = driver.effects.filter((e) => e.type === 'send').slice(-3);
    for (const effect of last) expect(effect.spans.length).toBeLessThanOrEqual(Math.ceil(6 / 3));
    expect(driver.pipeline.inFlight.length).toBe(Math.min(3, live));
  });
});

describe('limits', () => {
  it('refuse what the queue can not hold', () => {
    const driver = new Driver({ ...CONFIG, nSeqMax: 1, queueMax: 1 });
    for (const id of range(3)) driver.submit(id, range(4, id), 2);
    expect(driver.ended).toEqual(new Map([[3, 'generate.queue_full']]));
    driver.drain();
    expect(driver.ended.size).toBe(3);
  });
});

describe('any mix of requests', () => {
  const RUNS = process.env['MINIKEEP_LONG'] === '1' ? 20_000 : 400;
  const command = fc.oneof(
    { weight: 5, arbitrary: fc.constant({ type: 'back' as const }) },
    {
      weight: 3,
      arbitrary: fc.record({
        type: fc.constant('submit' as const),
        prompt: fc.array(fc.integer({ min: 1, max: 39 }), { minLength: 1, maxLength: 60 }),
        maxTokens: fc.integer({ min: 1, max: 30 }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ type: fc.constant('cancel' as const), which: fc.nat(50) }),
    },
    { weight: 1, arbitrary: fc.constant({ type: 'tick' as const }) },
  );
  const config = fc.record({
    stages: fc.integer({ min: 1, max: 8 }),
    nBatch: fc.integer({ min: 4, max: 64 }),
    nSeqMax: fc.integer({ min: 1, max: 9 }),
    contextTokens: fc.constant(64),
    exact: fc.boolean(),
    queueMax: fc.integer({ min: 0, max: 20 }),
  });

  it('gives each the answer that it would have had alone', () => {
    fc.assert(
      fc.property(config, fc.array(command, { maxLength: 80 }), (cfg, commands) => {
        const driver = new Driver(cfg);
        const requests = new Map<number, SchedulerRequest>();
        const cancelled = new Set<number>();
        let id = 0;
        for (const command of commands) {
          if (command.type === 'back') driver.back();
          else if (command.type === 'tick') driver.feed({ type: 'tick', nowMs: driver.nowMs });
          else if (command.type === 'submit') {
            id++;
            requests.set(id, driver.submit(id, command.prompt, command.maxTokens));
          } else {
            if (!driver.ended.has(command.which)) cancelled.add(command.which);
            driver.feed({ type: 'cancel', id: command.which, nowMs: driver.nowMs });
          }
          // The pipeline is never empty while there is work for it.
          if (driver.state.active.size > 0)
            expect(driver.pipeline.inFlight.length).toBeGreaterThan(0);
        }
        driver.drain();
        for (const [number, request] of requests) {
          const how = driver.ended.get(number);
          if (how === 'generate.queue_full') continue;
          const expected = twin(request, cfg.contextTokens);
          const tokens = driver.tokens.get(number) ?? [];
          if (cancelled.has(number))
            expect(tokens).toEqual(expected.tokens.slice(0, tokens.length));
          else {
            expect(how).toBe(expected.finish);
            expect(tokens).toEqual(expected.tokens);
          }
        }
        expect(driver.state.active.size).toBe(0);
        expect(driver.state.freeSlots.length).toBe(cfg.nSeqMax);
        expect(driver.pipeline.openSlots).toBe(driver.state.pendingOps.length);
      }),
      { numRuns: RUNS },
    );
  });
});
