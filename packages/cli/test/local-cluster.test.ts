/** A cluster of real processes: deploys, answers, refuses what it must, and leaves nothing. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomModelFile } from '@minikeep/testkit';
import { FrameLink, connect, deadline } from '@minikeep/protocol/rpc';
import {
  AgentServiceDefinition,
  DeployPhase,
  DeploymentState,
  FinishReason,
  OperatorServiceDefinition,
  SealLevel,
} from '@minikeep/protocol/v1';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LocalCluster } from '../src/local-cluster.ts';
import {
  Cache,
  ask,
  credentials,
  deploy,
  expectNothingLeft,
  failure,
  listeningSockets,
  guardOf,
  processesOf,
  start,
  tokens,
} from './cluster-helpers.ts';

const PROMPT = Array.from({ length: 90 }, (_, i) => 3 + ((i * 7) % 200));
let cache: Cache;
let model: string;

beforeAll(async () => {
  cache = new Cache();
  model = await randomModelFile('llama', { layers: 16 });
});
afterAll(() => cache.remove());

describe('a cluster of three nodes', () => {
  let cluster: LocalCluster;
  let alone: number[] = [];

  beforeAll(async () => {
    const one = await start(1, cache);
    await deploy(one, model);
    alone = (await ask(one, tokens(PROMPT), { maxTokens: 24 })).ids;
    await one.stop();
    cluster = await start(3, cache);
  });
  afterAll(async () => {
    await cluster?.stop();
  });

  it('shows its nodes, each a process of its own that listens once', async () => {
    const status = await cluster.operator.status({});
    expect(status.nodes.map((n) => [n.node, n.reachable])).toEqual([
      ['node-1', true],
      ['node-2', true],
      ['node-3', true],
    ]);
    expect(new Set(status.nodes.map((n) => n.agentPid)).size).toBe(3);
    for (const { pid } of [...cluster.nodes, cluster.coordinator])
      expect(listeningSockets(pid)).toBe(1);
  });

  it('keeps keys and configurations to its user', () => {
    for (const name of readdirSync(cluster.folder)) {
      expect(statSync(path.join(cluster.folder, name)).mode & 0o077).toBe(0);
      for (const file of readdirSync(path.join(cluster.folder, name)))
        expect(statSync(path.join(cluster.folder, name, file)).mode & 0o177).toBe(0);
    }
  });

  it('deploys with progress in every phase, and names the plan first', async () => {
    const phases: DeployPhase[] = [];
    let planned = -1;
    let sent = 0;
    const status = await deploy(cluster, model, {
      parallel: 4,
      onEvent(event) {
        if (event.$case === 'plan') planned = phases.length;
        if (event.$case !== 'progress') return;
        phases.push(event.value.phase);
        if (event.value.phase === DeployPhase.DEPLOY_PHASE_SENDING) sent = event.value.totalBytes;
      },
    });
    expect(planned).toBe(phases.indexOf(DeployPhase.DEPLOY_PHASE_SENDING));
    expect([...new Set(phases)]).toEqual([
      DeployPhase.DEPLOY_PHASE_CHECKING,
      DeployPhase.DEPLOY_PHASE_SENDING,
      DeployPhase.DEPLOY_PHASE_LOADING,
      DeployPhase.DEPLOY_PHASE_CONNECTING,
    ]);
    expect(sent).toBeGreaterThan(0);
    expect(status.stages.map((s) => s.node)).toEqual(['node-1', 'node-2', 'node-3']);
    expect(status.stages[0]?.layers?.start).toBe(0);
    expect(status.stages[2]?.layers?.end).toBe(16);
    expect(status.stages.every((s) => s.sandboxed)).toBe(true);
    expect(status.sealed).toBe(SealLevel.SEAL_LEVEL_ENGINE);
    expect(status.stages.every((s) => s.enginePid > 0 && (s.memory?.weightsBytes ?? 0) > 0)).toBe(
      true,
    );
  });

  it('answers what one process answers, token by token', async () => {
    const { ids, done } = await ask(cluster, tokens(PROMPT), { maxTokens: 24 });
    expect(ids).toEqual(alone);
    expect(done.tokenIds).toEqual(alone);
    expect(done).toMatchObject({
      finishReason: FinishReason.FINISH_REASON_LENGTH,
      promptTokens: 90,
      completionTokens: 24,
      violations: 0,
      sealed: SealLevel.SEAL_LEVEL_ENGINE,
    });
    expect(done.promptTokensPerSecond).toBeGreaterThan(0);
    expect(done.decodeTokensPerSecond).toBeGreaterThan(0);
    expect(done.stages.map((s) => s.node)).toEqual(['node-1', 'node-2', 'node-3']);
    for (const stage of done.stages) expect(stage.computeSeconds).toBeGreaterThan(0);
  });

  it('answers several at once as it answers each alone', async () => {
    const prompts = [0, 1, 2, 3, 4, 5].map((n) => PROMPT.map((id) => 3 + ((id * (n + 2)) % 230)));
    const single: number[][] = [];
    for (const prompt of prompts) single.push((await ask(cluster, tokens(prompt))).ids);
    const together = await Promise.all(prompts.map((prompt) => ask(cluster, tokens(prompt))));
    expect(together.map((answer) => answer.ids)).toEqual(single);
    expect(new Set(single.map((ids) => ids.join())).size).toBeGreaterThan(1);
  });

  it('stops an answer that nobody wants any more, and goes on with the next', async () => {
    const abort = new AbortController();
    const error = await failure(
      ask(cluster, tokens(PROMPT), {
        maxTokens: 400,
        signal: abort.signal,
        onToken: (count) => count === 5 && abort.abort(),
      }),
    );
    expect(error.code).toBe('call.cancelled');
    expect((await ask(cluster, tokens(PROMPT), { maxTokens: 24 })).ids).toEqual(alone);
    await expect
      .poll(async () => (await cluster.operator.status({})).deployments[0]?.sequencesActive, {
        timeout: 20_000,
      })
      .toBe(0);
  });

  it('ends at the context, at a prompt that fills it, and refuses one that does not fit', async () => {
    const full = Array.from({ length: 512 }, (_, i) => 3 + (i % 200));
    const { done } = await ask(cluster, tokens(full), { maxTokens: 0 });
    expect(done).toMatchObject({
      finishReason: FinishReason.FINISH_REASON_LENGTH,
      completionTokens: 1,
    });
    const error = await failure(ask(cluster, tokens([...full, 5])));
    expect(error).toMatchObject({ code: 'generate.prompt_too_long', exitCode: 2 });
    expect(error.details).toMatchObject({ prompt_tokens: '513', context_tokens: '512' });
  });

  it('ends before a stop string, however many tokens it is made of, and lets out no part of it', async () => {
    const sampling = (stop: string[]) => ({ temperature: 0, ignoreEog: true, stop });
    const maxTokens = 80;
    const whole = await ask(cluster, tokens(PROMPT), { maxTokens, sampling: sampling([]) });
    expect(whole.text.length).toBeGreaterThan(60);
    for (const length of [2, 50]) {
      const stop = whole.text.slice(5, 5 + length);
      const at = whole.text.indexOf(stop);
      const answer = await ask(cluster, tokens(PROMPT), { maxTokens, sampling: sampling([stop]) });
      expect(answer.text).toBe(whole.text.slice(0, at));
      expect(answer.done.finishReason).toBe(FinishReason.FINISH_REASON_STOP);
      // What almost came is shown in full: when something else follows, or nothing.
      const almost = `${stop}\u0001`;
      const other = await ask(cluster, tokens(PROMPT), { maxTokens, sampling: sampling([almost]) });
      if (!whole.text.includes(almost)) expect(other.text).toBe(whole.text);
    }
  });

  it('refuses what can not be answered, each with its own error', async () => {
    const cases: [() => Promise<unknown>, string, number][] = [
      [() => ask(cluster, tokens([])), 'generate.empty_prompt', 2],
      [() => ask(cluster, { $case: 'raw', value: '' }), 'generate.empty_prompt', 2],
      [() => ask(cluster, tokens([5, 1_000_000])), 'generate.token_invalid', 2],
      [() => ask(cluster, tokens([-1])), 'generate.token_invalid', 2],
      [() => ask(cluster, tokens([5]), { deployment: 'other' }), 'deployment.unknown', 2],
      [
        () => ask(cluster, tokens([5]), { sampling: { temperature: -1, stop: [] } }),
        'generate.sampling_invalid',
        2,
      ],
      [
        () => ask(cluster, tokens([5]), { sampling: { stop: ['x'.repeat(300)] } }),
        'generate.sampling_invalid',
        2,
      ],
    ];
    for (const [call, code, exitCode] of cases)
      expect(await failure(call())).toMatchObject({ code, exitCode });
    expect((await ask(cluster, tokens(PROMPT), { maxTokens: 3 })).ids).toEqual(alone.slice(0, 3));
  });

  it('sends nothing again that the nodes hold', async () => {
    await cluster.operator.undeploy({ name: 'test' });
    const before = readdirSync(path.join(cache.folder, 'store', 'slices'));
    const status = await deploy(cluster, model, { parallel: 4 });
    expect(readdirSync(path.join(cache.folder, 'store', 'slices'))).toEqual(before);
    expect(status.epoch).toBe(2);
    expect((await ask(cluster, tokens(PROMPT), { maxTokens: 24 })).ids).toEqual(alone);
  });

  describe('lets in nobody else', () => {
    it('a node may not ask the coordinator, nor control another node', async () => {
      const pems = await credentials(cluster, 'node', 'node-1');
      const { cluster: id } = cluster.authority;
      const coordinator = connect(
        OperatorServiceDefinition,
        cluster.coordinator.address,
        pems,
        { cluster: id, role: 'coordinator', name: 'coordinator' },
        'the coordinator',
      );
      const signal = deadline(5_000);
      expect(await failure(coordinator.client.status({}, { signal }))).toMatchObject({
        code: 'access.denied',
        exitCode: 5,
      });
      coordinator.close();
      for (const role of ['node', 'operator'] as const) {
        const agent = connect(
          AgentServiceDefinition,
          cluster.nodes[1]?.address ?? '',
          await credentials(cluster, role, 'node-1'),
          { cluster: id, role: 'node', name: 'node-2' },
          'node-2',
        );
        const call = agent.client.unload({ deployment: 'test' }, { signal: deadline(5_000) });
        expect(await failure(call)).toMatchObject({ code: 'access.denied', exitCode: 5 });
        agent.close();
      }
      expect((await ask(cluster, tokens(PROMPT), { maxTokens: 3 })).ids).toHaveLength(3);
    });

    it('frames are refused from a node that is no neighbour, of another epoch, and a second time', async () => {
      const { cluster: id } = cluster.authority;
      const open = async (
        from: string,
        to: number,
        epoch: number,
        session = 1,
      ): Promise<string> => {
        const sender = new FrameLink({
          ways: () => [cluster.nodes[to - 1]?.address ?? ''],
          credentials: await credentials(cluster, 'node', from),
          neighbour: { cluster: id, role: 'node', name: `node-${to}` },
          deployment: 'test',
          epoch,
          session,
          onEnd: () => {},
        });
        const outcome = await sender.accepted.then(
          () => 'accepted',
          (error: Error) => error.message,
        );
        sender.close();
        return outcome;
      };
      expect(await open('node-3', 2, 2)).toContain('is not the neighbour');
      expect(await open('node-1', 2, 1)).toContain('epoch 1');
      expect(await open('node-1', 2, 2, 2)).toContain('session 2');
      expect(await open('node-1', 2, 2)).toContain('already has a stream');
      expect((await ask(cluster, tokens(PROMPT), { maxTokens: 24 })).ids).toEqual(alone);
    });
  });

  it('takes a deployment down without a trace', async () => {
    const status = await cluster.operator.status({});
    const engines = status.deployments[0]?.stages.map((s) => s.enginePid) ?? [];
    expect(engines).toHaveLength(3);
    await cluster.operator.undeploy({ name: 'test' });
    await expectNothingLeft(engines, path.join(cluster.folder, 'nothing'));
    expect(await failure(ask(cluster, tokens([5])))).toMatchObject({ code: 'deployment.unknown' });
    expect(await failure(cluster.operator.undeploy({ name: 'test' }))).toMatchObject({
      code: 'deployment.unknown',
    });
  });

  it('leaves no process, no file and no socket', async () => {
    await deploy(cluster, model);
    const pids = processesOf(cluster);
    // Four trusted processes, three stages, one text engine, and what guards them.
    expect(pids.length).toBeGreaterThanOrEqual(8);
    await cluster.stop();
    await expectNothingLeft(pids, cluster.folder);
    expect(readdirSync(path.join(cache.folder, 'store', 'pins'))).toEqual([]);
    expect(readdirSync(path.join(cache.folder, 'store', 'incoming'))).toEqual([]);
  });
});

describe('a deployment that can not be', () => {
  let cluster: LocalCluster;
  let folder = '';
  beforeAll(async () => {
    cluster = await start(2, cache);
    folder = mkdtempSync(path.join(tmpdir(), 'minikeep-test-'));
  });
  afterAll(async () => {
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is refused before anything is sent', async () => {
    const empty = path.join(folder, 'folder');
    mkdirSync(empty);
    const cases: [() => Promise<unknown>, RegExp][] = [
      [() => deploy(cluster, path.join(folder, 'missing.gguf')), /^gguf\.not_found$/],
      [() => deploy(cluster, empty), /^gguf\.not_a_file$/],
      [() => deploy(cluster, model, { cuts: [0] }), /^slice\.cut_refused$/],
      [() => deploy(cluster, model, { cuts: [4, 8] }), /^deploy\.too_few_nodes$/],
      [() => deploy(cluster, model, { nodes: ['node-7'] }), /^node\.unknown$/],
      [() => deploy(cluster, model, { nodes: ['node-1', 'node-1'] }), /^node\.twice$/],
      [() => deploy(cluster, model, { batch: 1 }), /^deploy\.setting_invalid$/],
      [() => deploy(cluster, model, { name: '../x' }), /^deployment\.name_invalid$/],
      [() => deploy(cluster, model, { context: 15 * 1024 * 1024 }), /^plan\.no_fit$/],
    ];
    for (const [call, code] of cases) expect((await failure(call())).code).toMatch(code);
    const status = await cluster.operator.status({});
    expect(status.deployments).toEqual([]);
  });

  it('and one that is called off, at any moment, leaves no engine', async () => {
    for (const phase of [
      DeployPhase.DEPLOY_PHASE_CHECKING,
      DeployPhase.DEPLOY_PHASE_SENDING,
      DeployPhase.DEPLOY_PHASE_LOADING,
      DeployPhase.DEPLOY_PHASE_CONNECTING,
    ]) {
      rmSync(path.join(cache.folder, 'digests'), { recursive: true, force: true });
      const abort = new AbortController();
      const own = [cluster.coordinator.pid, ...cluster.nodes.map((n) => n.pid)];
      const trusted = [...own, ...own.map(guardOf)];
      const call = deploy(cluster, model, {
        name: `off-${phase}`,
        signal: abort.signal,
        onEvent: (event) =>
          event.$case === 'progress' && event.value.phase === phase && abort.abort(),
      });
      expect((await failure(call)).code).toBe('call.cancelled');
      const left = async (): Promise<number[]> => {
        // Called off while its last word was on the way: then it is up, whole, and can be taken down.
        const { deployments } = await cluster.operator.status({});
        for (const { name, state } of deployments)
          if (state === DeploymentState.DEPLOYMENT_STATE_READY)
            await cluster.operator.undeploy({ name }).catch(() => {});
        return processesOf(cluster).filter((pid) => !trusted.includes(pid));
      };
      await expect.poll(left, { timeout: 30_000 }).toEqual([]);
    }
    await deploy(cluster, model, { name: 'after' });
    expect((await ask(cluster, tokens([5, 6, 7]), { deployment: 'after' })).ids).toHaveLength(16);
  });
});

describe('without the sandbox, which has to be asked for', () => {
  it('a cluster answers the same and says that it is not sealed', async () => {
    const cluster = await start(2, cache, { unsafeNoSandbox: true });
    try {
      const status = await deploy(cluster, model);
      expect(status.sealed).toBe(SealLevel.SEAL_LEVEL_NONE);
      const { done } = await ask(cluster, tokens([5, 6, 7]));
      expect(done.sealed).toBe(SealLevel.SEAL_LEVEL_NONE);
      expect((await cluster.operator.status({})).sealed).toBe(SealLevel.SEAL_LEVEL_NONE);
    } finally {
      await cluster.stop();
    }
  });
});

describe('a start that is called off', () => {
  it('leaves nothing', async () => {
    const abort = new AbortController();
    const before = new Set(readdirSync(tmpdir()).filter((n) => /^minikeep-\w{6}$/.test(n)));
    setTimeout(() => abort.abort(new Error('enough')), 150);
    await expect(start(3, cache, { signal: abort.signal })).rejects.toThrow('enough');
    const after = readdirSync(tmpdir()).filter((n) => /^minikeep-\w{6}$/.test(n) && !before.has(n));
    expect(after).toEqual([]);
  });
});
