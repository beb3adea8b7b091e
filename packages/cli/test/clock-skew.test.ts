/**
 * Clocks an hour apart: a machine joins, a model comes up and answers, certificates are renewed; and it is said whose
 * clock is off, by how much, and which line sets it. The coordinator's processes have the wrong clock.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DIST } from './cluster-helpers.ts';
import { Homes, type RunningNode } from './homes.ts';
import { jsonError } from './minikeep.ts';

const HOUR_MS = 3_600_000;
/** Renewed in their last third: with a clock that goes on by another 70 minutes, at once. */
const CERTIFICATE_MINUTES = 100;
const AHEAD_MINUTES = 70;

const homes = new Homes();
let first: RunningNode;
let address = '';

/** What starts `minikeep` with a clock that is that far ahead. */
function ahead(minutes: number): readonly string[] {
  const wrong = path.join(homes.root, `node-${minutes}`);
  const clock = path.resolve(import.meta.dirname, 'shifted-clock.mjs');
  const set = `MINIKEEP_TEST_CLOCK_MS=${minutes * 60_000} MINIKEEP_TEST_NODE='${wrong}'`;
  writeFileSync(wrong, `#!/bin/sh\n${set} exec '${process.execPath}' --import '${clock}' "$@"\n`);
  chmodSync(wrong, 0o755);
  return [wrong, path.join(DIST, 'minikeep.mjs')];
}

beforeAll(async () => {
  const days = String(CERTIFICATE_MINUTES / 1440);
  const init = ['init', '--name', 'lab', '--node-name', 'mini-1', '--listen', '127.0.0.1:0'];
  await homes.json('a', ...init, '--certificate-days', days);
  first = await homes.startBy(ahead(AHEAD_MINUTES), 'a', '--accept-changed');
  await first.listening('coordinator');
  address = first.last('coordinator')?.address ?? '';
});
afterAll(() => homes.close());

it('a machine joins all the same, and hears by how much its clock is off and how to set it', async () => {
  const short = await homes.token('a', '--expires', '1s');
  const token = await homes.token('a');
  const joined = await homes.run('b', 'join', address, '--token-file', token, '--name', 'mini-2');
  expect(joined.code).toBe(0);
  // Wrapped to the terminal's width.
  const said = joined.stderr.replaceAll(/\s+/g, ' ');
  expect(said).toContain("this machine's clock is 1 h 10 min behind the coordinator's");
  expect(said).toMatch(/sudo date -u (-s '\d{4}-|\d{12})/);
  // A token's time is the coordinator's alone: a second is a second.
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  const late = await homes.run('c', 'join', address, '--token-file', short, '--json');
  expect([late.code, jsonError(late).code]).toEqual([5, 'token.refused']);
}, 60_000);

it('its node works, and says whose clock is off; so do `nodes`', async () => {
  const node = await homes.start('b');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
  expect((await node.warned('clock.skew')).message).toBe(
    "node mini-2's clock is 1 h 10 min behind the coordinator's",
  );
  const { stderr } = await homes.run('a', 'nodes');
  const said = stderr.replaceAll(/\s+/g, ' ');
  expect(said).toContain("mini-2's clock is 1 h 10 min behind the coordinator's");
  expect(said).toContain('sudo date -u');
  expect(said).not.toContain("mini-1's clock");
  const model = path.join(REPOSITORY, 'models/keeper.gguf');
  await homes.json('a', 'model', 'import', model, '--name', 'keeper', '--yes');
  await homes.json('a', 'up', 'keeper', '--no-canary', '--context', '256', '--threads', '1');
  const answered = await homes.run('a', 'run', 'keeper', 'What is a stage?');
  expect([answered.code, answered.stdout.length > 10]).toEqual([0, true]);
}, 120_000);

it('certificates are renewed by the coordinator’s clock, and the new ones are good on both', async () => {
  const ends = async (): Promise<number[]> =>
    (await homes.nodes('a')).map((node) => Date.parse(node.certificate_ends));
  const before = await ends();
  const node = [...homes.running].find((each) => each !== first);
  await node?.stop();
  await first.stop();
  first = await homes.startBy(ahead(2 * AHEAD_MINUTES), 'a', '--accept-changed');
  // Announced at its start, and renewed then.
  await homes.start('b');
  await expect
    .poll(async () => (await ends()).map((end, i) => end - (before[i] ?? 0) > HOUR_MS), {
      timeout: 60_000,
    })
    .toEqual([true, true]);
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
}, 120_000);
