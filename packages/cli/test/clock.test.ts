/** Clocks that jump, in every trusted process: nothing times out early, nothing waits for ever, answers are the same. */
import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  Cache,
  DIST,
  ask,
  chat,
  deploy,
  expectNothingLeft,
  failure,
  processesOf,
  start,
  tokens,
} from './cluster-helpers.ts';
import { Place } from './nothing-left.ts';

const TIMEOUT_MS = 180_000;
const HALF_AN_HOUR_MS = 1_800_000;
/** Silence of 4 s, two looks at the stages, and a slow machine. */
const STALL_SECONDS_MAX = 40;
const place = new Place();
const node = process.execPath;
/** A Node whose clock jumps. */
const jumping = path.join(place.root, 'node');

let model = '';
beforeAll(async () => {
  model = await randomModelFile('llama', { layers: 4 });
  const clock = path.resolve(import.meta.dirname, 'jumping-clock.mjs');
  writeFileSync(jumping, `#!/bin/sh\nexec '${node}' --import '${clock}' "$@"\n`);
  chmodSync(jumping, 0o755);
});
afterAll(() => place.remove());

it('the same answer, with times that make sense', { timeout: TIMEOUT_MS }, async () => {
  const args = [
    path.join(DIST, 'minikeep.mjs'),
    'run',
    model,
    'Hello there',
    '--json',
    '--accept-changed',
  ];
  args.push('--temperature', '0', '--max-tokens', '24', '--threads', '1', '--context', '256');
  const answer = async (program: string): Promise<Record<string, unknown>> => {
    const env = { ...process.env, ...place.env, MINIKEEP_TEST_NODE: program };
    const { stdout } = await promisify(execFile)(program, args, { env });
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
  };
  const right = await answer(node);
  const jumped = await answer(jumping);
  expect(jumped['token_ids']).toEqual(right['token_ids']);
  expect(jumped['token_ids']).toHaveLength(24);
  for (const field of ['total_seconds', 'first_token_seconds', 'decode_tokens_per_second']) {
    expect(jumped[field]).toBeGreaterThan(0);
    expect(jumped[field]).toBeLessThan(100_000);
  }
  expect(jumped['total_seconds']).toBeLessThan(60);
  await place.expectNothingLeft();
});

it(
  'nodes stay reachable, and a stage that hangs is still found out',
  { timeout: TIMEOUT_MS },
  async () => {
    const cache = new Cache();
    process.execPath = jumping;
    // For guards, which start the others.
    process.env['MINIKEEP_TEST_NODE'] = jumping;
    const cluster = await start(2, cache).finally(() => {
      process.execPath = node;
      delete process.env['MINIKEEP_TEST_NODE'];
    });
    const status = await deploy(cluster, model, { context: 4096 });
    expect((await ask(cluster, chat('Hello'))).ids).toHaveLength(16);
    // Long enough for heartbeats and keepalives to be overdue, if anything measured them by the clock.
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect((await cluster.operator.status({})).nodes.map((n) => n.reachable)).toEqual([true, true]);
    let stopped = 0;
    const error = await failure(
      ask(cluster, tokens([5, 9, 14]), {
        maxTokens: 4_000,
        onToken: (count) => {
          if (count !== 10) return;
          stopped = performance.now();
          process.kill(status.stages[1]?.enginePid ?? 0, 'SIGSTOP');
        },
      }),
    );
    expect(error.code).toBe('stage.stalled');
    expect((performance.now() - stopped) / 1000).toBeLessThan(STALL_SECONDS_MAX);
    const pids = processesOf(cluster);
    await cluster.stop();
    await expectNothingLeft(pids, cluster.folder);
    // Every line that these processes logged says a time that is far from the right one.
    const times = cluster
      .log()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => Date.parse((JSON.parse(line) as { at: string }).at));
    expect(times.length).toBeGreaterThan(5);
    for (const time of times) expect(Math.abs(time - Date.now())).toBeGreaterThan(HALF_AN_HOUR_MS);
    cache.remove();
  },
);
