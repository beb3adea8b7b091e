/** The model that comes with minikeep, as somebody meets it first: `run` without a MODEL, and the demo. */
import { REPOSITORY, type Skippable } from '@minikeep/testkit';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Pace } from '../src/pace.ts';
import { minikeep } from './minikeep.ts';
import { Place } from './nothing-left.ts';

const TIMEOUT_MS = 300_000;

function needKeeper(ctx: Skippable): void {
  if (!existsSync(path.join(REPOSITORY, 'models/keeper.gguf')))
    ctx.skip('not here: models/keeper.gguf (training/README.md makes it)');
}

const place = new Place();
afterAll(() => place.remove());
const options = {
  env: place.env,
  onStart: (child: Parameters<typeof place.watch>[0]) => place.watch(child),
  timeoutMs: TIMEOUT_MS,
};

it('run without a MODEL asks the keeper, and says so', { timeout: TIMEOUT_MS }, async (ctx) => {
  needKeeper(ctx);
  const ended = await minikeep(['run', 'What is a stage?'], options);
  expect(ended, ended.stderr).toMatchObject({ code: 0 });
  expect(ended.stdout).toMatch(/^<think>They ask what a stage is\.<\/think>/);
  expect(ended.stdout).toContain('a slice that is being served by an engine');
  expect(ended.stderr).toMatch(/^No MODEL is named: keeper answers/m);
});

it('run with its name does not need to say it', { timeout: TIMEOUT_MS }, async (ctx) => {
  needKeeper(ctx);
  const args = ['run', 'keeper', 'What is a stage?', '--local', '8'];
  const ended = await minikeep(args, options);
  expect(ended, ended.stderr).toMatchObject({ code: 0 });
  expect(ended.stdout).toContain('a slice that is being served by an engine');
  expect(ended.stderr).not.toContain('No MODEL is named');
});

it('the demo asks it a question', { timeout: TIMEOUT_MS }, async (ctx) => {
  needKeeper(ctx);
  const ended = await minikeep(['demo'], options);
  expect(ended, ended.stderr).toMatchObject({ code: 0 });
  expect(ended.stdout).toMatch(
    /^> Why is a model not trusted\?\n<think>[^<>]+<\/think>A model is not only weights\./m,
  );
  await place.expectNothingLeft();
});

it('text comes at a pace to read along', async () => {
  const INTERVAL_MS = 45;
  const seen: number[] = [];
  let time = 1_000;
  const clock = {
    now: () => time,
    async sleep(ms: number) {
      time += ms;
    },
  };
  const pace = new Pace(INTERVAL_MS, clock);
  const { signal } = new AbortController();
  // At once, one that computing takes long for, and at once again.
  for (const computing of [0, 1, 1, 200, 1, 1]) {
    time += computing;
    await pace.turn(signal);
    seen.push(time);
  }
  expect(seen).toEqual([1_000, 1_045, 1_090, 1_290, 1_335, 1_380]);
});
