/** What is wanted comes back, whatever is killed: real processes, killed with SIGKILL and started again. */
import { randomModelFile } from '@minikeep/testkit';
import { setTimeout as pause } from 'node:timers/promises';
import { DeploymentState, type DeploymentStatus } from '@minikeep/protocol/v1';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Cache, alive, ask, failure, tokens } from './cluster-helpers.ts';
import { KeptCluster, NAME } from './kept-cluster.ts';

const WAIT = { timeout: 120_000, interval: 100 };
const PROMPT = [5, 9, 14, 22, 31, 40];
const ready = DeploymentState.DEPLOYMENT_STATE_READY;

/** Nodes whose engine is another process now. */
const changed = (before: DeploymentStatus, after: DeploymentStatus | undefined): string[] =>
  before.stages.flatMap(({ node, enginePid }, i) =>
    after?.stages[i]?.enginePid === enginePid ? [] : [node],
  );

let cache: Cache;
let model: string;
beforeAll(async () => {
  cache = new Cache();
  model = await randomModelFile('llama', { layers: 6 });
});
afterAll(() => cache.remove());

describe('a deployment that is kept', { timeout: 240_000 }, () => {
  let cluster: KeptCluster;
  beforeEach(async () => {
    cluster = await KeptCluster.start(3, model, cache);
  });
  afterEach(() => cluster.stop());

  const answer = async (prompt: readonly number[] = PROMPT, maxTokens = 24) =>
    (await ask(cluster.now, tokens(prompt), { deployment: NAME, maxTokens })).ids;
  const untilReady = () =>
    expect.poll(async () => (await cluster.status())?.state, WAIT).toBe(ready);

  it('is attached by a coordinator that was killed: no reload, the epoch kept, answers as before', async () => {
    const before = await cluster.up({ nodes: ['node-1', 'node-2'] });
    const engines = before.stages.map((stage) => stage.enginePid);
    const fresh = await answer();
    const other = await answer([7, 8, 9]);
    for (let life = 0; life < 3; life++) {
      // Killed with steps in every stage: sequences are open, results on their way.
      const cut = [0, 1].map((n) =>
        failure(ask(cluster.now, tokens([...PROMPT, n]), { deployment: NAME, maxTokens: 3500 })),
      );
      await expect.poll(async () => (await cluster.status())?.sequencesActive, WAIT).toBe(2);
      // In one life an engine still holds a step of the session before when the next one connects it.
      const held = life === 1 ? (engines[1] ?? 0) : 0;
      if (held > 0) process.kill(held, 'SIGSTOP');
      await pause(200);
      await cluster.killCoordinator();
      await Promise.all(cut);
      await cluster.startCoordinator();
      if (held > 0) setTimeout(() => process.kill(held, 'SIGCONT'), 2_000);
      // Not waited for: a request that comes at once is held until the engines are attached.
      const [a, b] = await Promise.all([answer(), answer([7, 8, 9])]);
      expect([a, b]).toEqual([fresh, other]);
    }
    const after = await cluster.status();
    expect(after).toMatchObject({ state: ready, epoch: before.epoch, kept: true });
    expect(after?.stages.map((stage) => stage.enginePid)).toEqual(engines);
    await cluster.now.operator.undeploy({ name: NAME });
    expect(engines.filter(alive)).toEqual([]);
  });

  it('loads only the stage of a node that was restarted, and says meanwhile which it waits for', async () => {
    const before = await cluster.up();
    const fresh = await answer();
    await cluster.kill('node-2');
    await expect
      .poll(async () => (await cluster.status())?.error?.code, WAIT)
      .toBe('deployment.waiting');
    const error = await failure(answer());
    expect(error).toMatchObject({ code: 'deployment.waiting', exitCode: 4 });
    expect(error.message).toContain('node node-2');
    await cluster.startAgent('node-2');
    await untilReady();
    const after = await cluster.status();
    expect(after?.epoch).toBe(before.epoch);
    expect(changed(before, after)).toEqual(['node-2']);
    expect(await answer()).toEqual(fresh);
  });

  it('is attached again when a node was only out of reach: nothing is loaded', async () => {
    const before = await cluster.up({ nodes: ['node-1', 'node-2'] });
    const fresh = await answer();
    const agent = cluster.pid('node-2');
    process.kill(agent, 'SIGSTOP');
    await expect
      .poll(async () => (await cluster.status())?.error?.code, WAIT)
      .toBe('deployment.waiting');
    process.kill(agent, 'SIGCONT');
    await untilReady();
    const after = await cluster.status();
    expect(after?.epoch).toBe(before.epoch);
    const pids = (status: typeof after) => status?.stages.map((stage) => stage.enginePid);
    expect(pids(after)).toEqual(pids(before));
    expect(await answer()).toEqual(fresh);
  });

  it('loads an engine again that dies, the first or the last as well; what it computed gets a clear error', async () => {
    let before = await cluster.up();
    const fresh = await answer();
    for (const stage of [1, 0, 2]) {
      const running = failure(answer(PROMPT, 3500));
      await expect.poll(async () => (await cluster.status())?.sequencesActive, WAIT).toBe(1);
      const pid = before.stages[stage]?.enginePid ?? 0;
      process.kill(pid, 'SIGKILL');
      const error = await running;
      expect(error).toMatchObject({ code: 'engine.died', details: { node: `node-${stage + 1}` } });
      expect(error.next).toContain(`${NAME} comes back by itself`);
      await expect
        .poll(async () => {
          const status = await cluster.status();
          return status?.state === ready && status.stages[stage]?.enginePid !== pid;
        }, WAIT)
        .toBe(true);
      const after = await cluster.status();
      expect(after?.epoch).toBe(before.epoch);
      expect(changed(before, after)).toEqual([`node-${stage + 1}`]);
      expect(await answer()).toEqual(fresh);
      before = after ?? before;
    }
  });

  it('leaves a node that is drained: what runs ends, what comes waits, and nothing fails', async () => {
    const before = await cluster.up();
    const long = answer(PROMPT, 300);
    await expect.poll(async () => (await cluster.status())?.sequencesActive, WAIT).toBe(1);
    const drained: string[] = [];
    const drain = (async () => {
      for await (const { event } of cluster.now.operator.drainNode({ node: 'node-2' }))
        drained.push(event?.$case ?? '');
    })();
    await expect.poll(() => drained[0], WAIT).toBe('accepted');
    const waited = answer();
    expect(await long).toHaveLength(300);
    await drain;
    expect(drained.at(-1)).toBe('moved');
    expect(await waited).toHaveLength(24);
    const after = await cluster.status();
    expect(after?.epoch).toBe(before.epoch + 1);
    expect(after?.stages.map((stage) => stage.node)).not.toContain('node-2');
    expect(alive(before.stages[1]?.enginePid ?? 0)).toBe(false);

    // The last one with room may not go.
    for (const node of ['node-1', 'node-3']) {
      const others = cluster.now.operator.drainNode({ node });
      const outcome = (async () => {
        for await (const _ of others);
      })();
      if (node === 'node-1') await outcome;
      else expect(await failure(outcome)).toMatchObject({ code: 'drain.no_room' });
    }
    expect(await answer()).toHaveLength(24);
    await cluster.now.operator.resumeNode({ node: 'node-2' });
    const nodes = (await cluster.now.operator.status({})).nodes;
    expect(nodes.map((node) => node.draining)).toEqual([true, false, false]);
  });
});
