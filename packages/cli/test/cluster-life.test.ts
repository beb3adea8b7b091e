/** A cluster with homes and a model: import, up, a coordinator that is killed, drain, down; as a user types it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { onlyOn, REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Homes, type RunningNode } from './homes.ts';
import { jsonError } from './minikeep.ts';

interface StatusDocument {
  readonly deployments: {
    readonly name: string;
    readonly state: string;
    readonly epoch: number;
    readonly stages: { readonly node: string; readonly engine_pid: number }[];
  }[];
}

type Status = StatusDocument['deployments'][number];

interface SealDocument {
  readonly reasons: object[];
  readonly nodes: { readonly monitors: { ok: boolean }; readonly enforcement: { ok: boolean } }[];
}

interface Answered {
  readonly type: string;
  readonly text?: string;
}

const homes = new Homes();
const MODEL = path.join(REPOSITORY, 'models/keeper.gguf');
/** From the start of a command until the coordinator has heard it. */
const UP_ASKED_MS = 1_500;
const WAIT = { timeout: 60_000, interval: 50 };
let first: RunningNode;

beforeAll(async () => {
  first = await homes.startFirst('a', '--node-name', 'mini-1');
  const address = first.last('coordinator')?.address ?? '';
  const token = await homes.token('a');
  await homes.json('b', 'join', address, '--token-file', token, '--name', 'mini-2');
  await homes.start('b');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
});
afterAll(() => homes.close());

const status = () => homes.json<StatusDocument>('a', 'status');
async function until(state: string): Promise<StatusDocument['deployments'][number]> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = (await status()).deployments.find((each) => each.name === 'keeper');
    if (found?.state === state) return found;
    if (Date.now() > deadline) throw new Error(`it is ${JSON.stringify(found)}`);
  }
}

it('a model is imported through the coordinator that runs, and comes up on both nodes', async () => {
  const refused = await homes.run('a', 'model', 'import', MODEL, '--name', 'keeper', '--json');
  expect(jsonError(refused).code).toMatch(/^(usage|model)\./);
  const nothing = await homes.run('a', 'run', 'hi', '--json');
  expect(jsonError(nothing).code).toBe('run.nothing_up');
  await homes.json('a', 'model', 'import', MODEL, '--name', 'keeper', '--yes');
  const { models } = await homes.json<{ models: { name: string }[] }>('a', 'model', 'list');
  expect(models.map((model) => model.name)).toEqual(['keeper']);
  const notUp = await homes.run('a', 'run', 'keeper', 'hi', '--json');
  expect(jsonError(notUp).code).toBe('run.not_up');
  await homes.json('a', 'up', 'keeper', '--no-canary', '--context', '256', '--threads', '1');
  const up = await until('ready');
  expect(up.stages.map((stage) => stage.node)).toEqual(['mini-1', 'mini-2']);
});

it('a model that is up answers whoever asks the home, and says what cannot be asked of it', async () => {
  const question = ['run', 'keeper', 'What is a stage?', '--seed', '1', '--json'];
  const { stdout, code } = await homes.run('a', ...question);
  expect(code).toBe(0);
  const answered = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answered);
  expect(answered.at(-1)).toMatchObject({
    type: 'done',
    finish_reason: 'stop',
    sealed: 'engine',
    violations: 0,
    stages: [{ node: 'mini-1' }, { node: 'mini-2' }],
  });
  const text = answered.map((each) => each.text ?? '').join('');
  expect(text).toMatch(/slice that is being served/);
  // Without a name, the one that is up answers, and says which it is.
  const unnamed = await homes.run('a', 'run', 'What is a stage?', '--seed', '1');
  expect(unnamed.stdout.trim()).toBe(text.trim());
  expect(unnamed.stderr).toMatch(/keeper answers/);
  const refusals: [string, string[]][] = [
    ['model.unknown', ['nobody', 'hi']],
    ['usage.file_on_cluster', ['./some.gguf', 'hi']],
    ['usage.decided_by_up', ['keeper', 'hi', '--local', '2']],
    ['usage.no_prompt', ['keeper']],
  ];
  for (const [code, words] of refusals)
    expect(jsonError(await homes.run('a', 'run', ...words, '--json')).code).toBe(code);
});

it('a monitor that stops is told within five seconds, everywhere, and so is its return', async (ctx) => {
  onlyOn(ctx, 'linux');
  const sealed = async (): Promise<string> =>
    (await homes.json<{ sealed: string }>('a', 'status')).sealed;
  expect(await sealed()).toBe('engine');
  const { stages } = await until('ready');
  const own = readFileSync(`/proc/${stages[1]?.engine_pid}/status`, 'utf8');
  const warden = Number(/^PPid:\s+(\d+)$/m.exec(own)?.[1]);
  process.kill(warden, 'SIGSTOP');
  try {
    // Two of them are a command's own start.
    await expect.poll(sealed, { timeout: 7_000, interval: 50 }).toBe('blind');
    const { api } = await homes.json<{ api: { url: string } }>('a', 'status');
    const { headers } = await fetch(`${api.url}/v1/models`);
    expect(headers.get('x-minikeep-sealed')).toBe('blind');
    const shown = await homes.json<SealDocument>('a', 'seal', 'status');
    expect(shown.reasons).toEqual([
      { node: 'mini-2', level: 'blind', what: 'its warden is not heard any more' },
    ]);
    expect(shown.nodes.map((node) => [node.monitors.ok, node.enforcement.ok])).toEqual([
      [true, true],
      [false, true],
    ]);
  } finally {
    process.kill(warden, 'SIGCONT');
  }
  await expect.poll(sealed, { timeout: 7_000, interval: 50 }).toBe('engine');
  // Kept when it is looked at, once a second.
  const changes = async (): Promise<string[]> => {
    const { stdout } = await homes.run('a', 'events', '--json');
    return [...stdout.matchAll(/"kind":"seal\.changed","data":\{"from":"\w+","to":"(\w+)"/g)].map(
      (match) => match[1] ?? '',
    );
  };
  await expect.poll(changes, { timeout: 5_000 }).toEqual(['engine', 'blind', 'engine']);
});

it('a coordinator that is killed finds its engines again: no reload, the epoch kept', async () => {
  const before = await until('ready');
  const { pid } = first.last('coordinator') ?? {};
  process.kill(pid ?? 0, 'SIGKILL');
  const deadline = Date.now() + 30_000;
  while (first.last('coordinator')?.pid === pid && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await until('ready')).toEqual(before);
});

it('a coordinator that is killed in the middle of up: the error says what to do, and up works again', async () => {
  await homes.json('a', 'down', 'keeper');
  const agent = [...homes.running].find((node) => node !== first)?.last('agent')?.pid ?? 0;
  const up = ['up', 'keeper', '--no-canary', '--context', '256', '--json'];
  for (;;) {
    const coordinator = first.last('coordinator')?.pid ?? 0;
    // It answers nothing for a moment: `up` is under way for as long as it takes to kill the coordinator.
    process.kill(agent, 'SIGSTOP');
    const asked = homes.run('a', ...up);
    await pause(UP_ASKED_MS);
    process.kill(coordinator, 'SIGKILL');
    const ended = await asked;
    process.kill(agent, 'SIGCONT');
    await expect.poll(() => first.last('coordinator')?.pid, WAIT).not.toBe(coordinator);
    // On a slow machine it was killed before it was asked.
    if (jsonError(ended).code === 'cluster.not_running') continue;
    expect([ended.code, jsonError(ended).code]).toEqual([4, 'cluster.connection_lost']);
    expect(jsonError(ended).next).toContain('minikeep status');
    break;
  }
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
  expect((await homes.json<Status>('a', ...up.slice(0, -1))).stages).toHaveLength(2);
}, 120_000);

it('an agent that is killed loads its slice again by itself; the other keeps its engine and the epoch', async () => {
  const before = await until('ready');
  const other = [...homes.running].find((node) => node !== first);
  process.kill(other?.last('agent')?.pid ?? 0, 'SIGKILL');
  const deadline = Date.now() + 60_000;
  for (;;) {
    const now = (await status()).deployments[0];
    const pids = now?.stages.map((stage) => stage.engine_pid) ?? [];
    if (now?.state === 'ready' && pids[1] !== before.stages[1]?.engine_pid) {
      expect([now.epoch, pids[0]]).toEqual([before.epoch, before.stages[0]?.engine_pid]);
      break;
    }
    if (Date.now() > deadline) throw new Error(`it is ${JSON.stringify(now)}`);
  }
}, 90_000);

it('the canary runs where a node’s engines run, asked of the cluster; two at once follow each other', async () => {
  const ask = () => homes.run('a', 'canary', '--node', 'mini-2', '--json');
  for (const one of await Promise.all([ask(), ask()])) {
    const report = JSON.parse(one.stdout) as { node: string; passed: boolean; attempts: object[] };
    expect([one.code, report.node, report.passed]).toEqual([0, 'mini-2', true]);
    expect(report.attempts.length).toBeGreaterThan(100);
    expect(report.attempts[0]).toMatchObject({ refused: true });
  }
  const nobody = await homes.run('a', 'canary', '--node', 'mini-9', '--json');
  expect([nobody.code, jsonError(nobody).code]).toEqual([2, 'node.unknown']);
  const elsewhere = await homes.run('b', 'canary', '--node', 'mini-2', '--json');
  expect(jsonError(elsewhere).code).toBe('home.not_coordinator');
}, 240_000);

it('the doctor looks at a node by its own agent, and what it found is remembered', async () => {
  const { nodes: before } = await homes.json<{ nodes: { model_check: object }[] }>('a', 'nodes');
  expect(before.map((node) => node.model_check)).toEqual([
    { status: 'not_run' },
    { status: 'not_run' },
  ]);
  const { code, stdout } = await homes.run('a', 'doctor', '--node', 'mini-2', '--json');
  const document = JSON.parse(stdout) as { blocks: boolean; findings: { id: string }[] };
  expect([code, document.blocks]).toEqual([0, false]);
  expect(document.findings.map(({ id }) => id)).toEqual(
    expect.arrayContaining(['sandbox', 'engine', 'model_check', 'disk']),
  );
  const { nodes: after } = await homes.json<{ nodes: { model_check: object }[] }>('a', 'nodes');
  expect(after[1]?.model_check).toMatchObject({ status: 'exact' });
  const nobody = await homes.run('a', 'doctor', '--node', 'mini-9', '--json');
  expect([nobody.code, jsonError(nobody).code]).toEqual([2, 'node.unknown']);
}, 240_000);

it('a node that is drained holds nothing any more, and can come back', async () => {
  const drained = await homes.json<{ moved: string[] }>('a', 'node', 'drain', 'mini-2');
  expect(drained.moved).toEqual(['keeper']);
  expect((await until('ready')).stages.map((stage) => stage.node)).toEqual(['mini-1']);
  await homes.untilStates('a', { 'mini-2': 'drained' });
  await homes.json('a', 'node', 'resume', 'mini-2');
  await homes.untilStates('a', { 'mini-2': 'up' });
});

it('a model that is taken down is gone, and only once', async () => {
  await homes.json('a', 'down', 'keeper');
  expect((await status()).deployments).toEqual([]);
  const again = await homes.run('a', 'down', 'keeper', '--json');
  expect([again.code, jsonError(again).code]).toEqual([2, 'deployment.unknown']);
});

it('a node that is away is left out of the next up, and said; back, it is used again', async () => {
  const other = [...homes.running].find((node) => node !== first);
  await other?.stop();
  await homes.untilStates('a', { 'mini-2': 'away' });
  // Out of reach is the node, not the coordinator that says so.
  for (const asked of [['doctor'], ['canary']]) {
    const ended = await homes.run('a', ...asked, '--node', 'mini-2', '--json');
    expect([ended.code, jsonError(ended).code]).toEqual([4, 'node.unreachable']);
    expect(jsonError(ended).message).toContain('mini-2');
  }
  const up = ['up', 'keeper', '--no-canary', '--context', '256', '--threads', '1'];
  const without = await homes.json<Status & { left_out: object[] }>('a', ...up);
  expect(without.stages.map((stage) => stage.node)).toEqual(['mini-1']);
  expect(without.left_out).toEqual([{ node: 'mini-2', code: 'node.unreachable' }]);
  await homes.json('a', 'down', 'keeper');
  await homes.start('b');
  await homes.untilStates('a', { 'mini-2': 'up' });
  const again = await homes.json<Status & { left_out: object[] }>('a', ...up);
  expect([again.stages.length, again.left_out]).toEqual([2, []]);
}, 120_000);

it('a node that holds layers is removed only when the others can take them', async () => {
  await homes.json('a', 'node', 'drain', 'mini-1');
  const refused = await homes.run('a', 'node', 'remove', 'mini-2', '--json');
  expect(jsonError(refused)).toMatchObject({ code: 'remove.no_room' });
  expect(jsonError(refused).next).toContain('--force');
  const before = await until('ready');
  expect(before.stages.map((stage) => stage.node)).toEqual(['mini-2']);
  await homes.json('a', 'node', 'resume', 'mini-1');
  expect(await homes.json('a', 'node', 'remove', 'mini-2')).toMatchObject({ moved: ['keeper'] });
  const after = await until('ready');
  expect(after.stages.map((stage) => stage.node)).toEqual(['mini-1']);
  expect(after.epoch).toBe(before.epoch + 1);
}, 120_000);
