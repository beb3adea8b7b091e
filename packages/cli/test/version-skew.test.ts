/**
 * Machines with different versions of minikeep: whoever can't work with the other says which of the two is to be updated
 * and how, nothing is lost meanwhile, and once it is updated all goes on by itself. Real programs with other numbers.
 */
import path from 'node:path';
import { MINIKEEP_VERSION, PROTOCOL_VERSION } from '@minikeep/protocol';
import { REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Homes, type RunningNode } from './homes.ts';
import { jsonError } from './minikeep.ts';
import { otherVersion } from './other-version.ts';

const homes = new Homes();
const OURS = `${MINIKEEP_VERSION} (protocol ${PROTOCOL_VERSION})`;
let first: RunningNode;
let address: string;
let newer: readonly string[];

beforeAll(async () => {
  newer = otherVersion(homes.home('newer'), { version: '9.0.0', protocol: PROTOCOL_VERSION + 1 });
  first = await homes.startFirst('a', '--node-name', 'mini-1');
  address = first.last('coordinator')?.address ?? '';
});
afterAll(() => homes.close());

const join = (token: string) => ['join', address, '--token-file', token, '--name', 'mini-2'];
const errorOf = async (node: string) =>
  (await homes.nodes('a')).find(({ name }) => name === node)?.error;

it('a machine with a newer or older version may not join; its token stays good', async () => {
  const token = await homes.token('a');
  const older = otherVersion(homes.home('older'), { version: '0.0.9', protocol: 1 });
  for (const [program, theirs, update] of [
    [newer, `9.0.0 (protocol ${PROTOCOL_VERSION + 1})`, 'the older one, the coordinator: '],
    [older, '0.0.9 (protocol 1)', 'the older one, the machine that joins as mini-2: '],
  ] as const) {
    const ended = await homes.runBy(program, 'b', ...join(token), '--json');
    expect([ended.code, jsonError(ended).code]).toEqual([1, 'version.mismatch']);
    const { message, next } = jsonError(ended);
    expect(message).toBe(
      `the machine that joins as mini-2 runs minikeep ${theirs}, the coordinator runs ${OURS}: they don't work together`,
    );
    expect(next).toContain(update);
    expect(next).toMatch(/minikeep bootstrap .*--digest.* sh install\.sh /);
  }
  await homes.json('b', ...join(token));
}, 60_000);

it('a node that is upgraded alone says so, and so do `nodes`; back, it is there again', async () => {
  const alone = await homes.startBy(newer, 'b');
  const { message, next } = await alone.warned('version.mismatch');
  expect(message).toContain(`node mini-2 runs minikeep 9.0.0`);
  expect(next).toContain('the older one, the coordinator: ');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'joined' });
  expect((await errorOf('mini-2'))?.code).toBe('version.mismatch');
  expect(await alone.stop()).toBe(0);
  await homes.start('b');
  await homes.untilStates('a', { 'mini-2': 'up' });
  expect(await errorOf('mini-2')).toBe(null);
}, 60_000);

it('a coordinator that is upgraded alone is told the same; back, its nodes come by themselves', async () => {
  const node = [...homes.running].find((each) => each !== first);
  await first.stop();
  first = await homes.startBy(newer, 'a');
  await first.listening('coordinator');
  expect((await node?.warned('version.mismatch'))?.next).toContain('the older one, node mini-2: ');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'away' });
  expect((await errorOf('mini-2'))?.code).toBe('version.mismatch');
  await first.stop();
  first = await homes.start('a');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
}, 90_000);

it('a node of another version that still can talk is left out of `up`, and refused when it is named', async () => {
  const node = [...homes.running].find((each) => each !== first);
  await node?.stop();
  const program = { version: '0.0.9', protocol: PROTOCOL_VERSION };
  await homes.startBy(otherVersion(homes.home('same'), program), 'b');
  await homes.untilStates('a', { 'mini-2': 'up' });
  const model = path.join(REPOSITORY, 'models/keeper.gguf');
  await homes.json('a', 'model', 'import', model, '--name', 'keeper', '--yes');
  const up = ['up', 'keeper', '--no-canary', '--context', '256', '--threads', '1'];
  const named = await homes.run('a', ...up, '--nodes', 'mini-1,mini-2', '--json');
  expect([named.code, jsonError(named).code]).toEqual([1, 'version.mismatch']);
  expect(jsonError(named).next).toContain('the older one, node mini-2: ');
  const { left_out: leftOut } = await homes.json<{ left_out: object[] }>('a', ...up);
  expect(leftOut).toEqual([{ node: 'mini-2', code: 'version.mismatch' }]);
}, 90_000);
