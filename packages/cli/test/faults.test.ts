/** What breaks in the middle of a sentence: each ends it with one error that names node and stage, within seconds. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LocalCluster } from '../src/local-cluster.ts';
import type { DeploymentStatus } from '@minikeep/protocol/v1';
import type { MinikeepError } from '@minikeep/protocol';
import {
  Cache,
  DIST,
  alive,
  ask,
  deploy,
  expectNothingLeft,
  failure,
  processesOf,
  start,
  tokens,
  familyOf,
  treeOf,
} from './cluster-helpers.ts';

/** Silence of 4 s, two looks at the stages, and a slow machine. */
const STALL_SECONDS_MAX = 40;
const DEATH_SECONDS_MAX = 15;
const PROMPT = [5, 9, 14, 22, 31, 40];

let cache: Cache;
let model: string;
beforeAll(async () => {
  cache = new Cache();
  model = await randomModelFile('llama', { layers: 16 });
});
afterAll(() => cache.remove());

describe('in the middle of a sentence', () => {
  let cluster: LocalCluster | undefined;
  let pids: number[] = [];
  let folder = '';

  async function up(): Promise<[LocalCluster, DeploymentStatus]> {
    const started = await start(3, cache);
    cluster = started;
    const status = await deploy(started, model, { context: 8192, parallel: 2 });
    pids = processesOf(started);
    folder = started.folder;
    return [started, status];
  }

  afterEach(async () => {
    await cluster?.stop();
    await expectNothingLeft(pids, folder);
  });

  /** Does something to a process after the tenth token; returns the error that ends both answers, and after how long. */
  async function broken(
    running: LocalCluster,
    act: () => void,
  ): Promise<{ error: MinikeepError; seconds: number }> {
    let acted = 0;
    const answers = [0, 1].map((n) =>
      failure(
        ask(running, tokens([...PROMPT, n]), {
          maxTokens: 8000,
          onToken(count) {
            if (n !== 0 || count !== 10) return;
            acted = performance.now();
            act();
          },
        }),
      ),
    );
    const [error, other] = await Promise.all(answers);
    if (error === undefined) throw new Error('no error');
    expect(other?.code).toBe(error.code);
    expect(acted).toBeGreaterThan(0);
    return { error, seconds: (performance.now() - acted) / 1000 };
  }

  it('an engine is killed: named at once, and a new deployment works', async () => {
    const [running, status] = await up();
    const stage = status.stages[1];
    const { error, seconds } = await broken(running, () =>
      process.kill(stage?.enginePid ?? 0, 'SIGKILL'),
    );
    expect(error.code).toBe('engine.died');
    expect(error.message).toContain('stage 2 (layers');
    expect(error.message).toContain('on node node-2');
    expect(error.details).toMatchObject({ node: 'node-2', stage: '1' });
    expect(seconds).toBeLessThan(DEATH_SECONDS_MAX);
    expect((await failure(ask(running, tokens(PROMPT)))).code).toBe('engine.died');
    const engines = status.stages.map((s) => s.enginePid);
    await expect.poll(() => engines.filter(alive), { timeout: 20_000 }).toEqual([]);
    await deploy(running, model);
    pids = [...pids, ...processesOf(running)];
    expect((await ask(running, tokens(PROMPT))).ids).toHaveLength(16);
  });

  it('an agent is killed: its node is named, its engine goes with it', async () => {
    const [running] = await up();
    const agent = running.nodes[2]?.pid ?? 0;
    const family = familyOf([agent]);
    expect(family.length).toBeGreaterThan(2);
    const { error, seconds } = await broken(running, () => process.kill(agent, 'SIGKILL'));
    expect(error.code).toBe('node.lost');
    expect(error.message).toContain('on node node-3');
    expect(error.exitCode).toBe(4);
    expect(seconds).toBeLessThan(DEATH_SECONDS_MAX);
    await expect.poll(() => family.filter(alive), { timeout: 20_000 }).toEqual([]);
    const node = (await running.operator.status({})).nodes[2];
    expect(node).toMatchObject({ reachable: false });
  });

  it('an engine stops answering (SIGSTOP): its stage is named', async () => {
    const [running, status] = await up();
    const engine = status.stages[1]?.enginePid ?? 0;
    const { error, seconds } = await broken(running, () => process.kill(engine, 'SIGSTOP'));
    expect(error.code).toBe('stage.stalled');
    expect(error.message).toContain('on node node-2');
    expect(error.message).toContain('stopped');
    expect(seconds).toBeLessThan(STALL_SECONDS_MAX);
  });

  it('an agent stops answering (SIGSTOP): its node is named', async () => {
    const [running] = await up();
    const agent = running.nodes[1]?.pid ?? 0;
    const { error, seconds } = await broken(running, () => process.kill(agent, 'SIGSTOP'));
    expect(['stage.stalled', 'node.lost']).toContain(error.code);
    expect(error.message).toContain('on node node-2');
    expect(seconds).toBeLessThan(STALL_SECONDS_MAX);
    process.kill(agent, 'SIGCONT');
  });

  it('the coordinator is killed: the caller hears of it, the engines end', async () => {
    const [running] = await up();
    const { error, seconds } = await broken(running, () =>
      process.kill(running.coordinator.pid, 'SIGKILL'),
    );
    expect(error.exitCode).toBe(4);
    expect(error.message).toContain('the coordinator');
    expect(seconds).toBeLessThan(DEATH_SECONDS_MAX);
  });
});

describe('whoever started the cluster is killed', () => {
  it('and nothing of it goes on', async () => {
    const program = `
      import { startLocalCluster } from ${JSON.stringify(path.resolve(import.meta.dirname, '../src/local-cluster.ts'))};
      const cluster = await startLocalCluster(${JSON.stringify({ nodes: 2, distFolder: DIST, cacheFolder: cache.folder })});
      for await (const { event } of cluster.operator.deploy({ name: 'd', modelPath: ${JSON.stringify(model)}, context: { nCtx: 64, threads: 1 } }))
        if (event?.$case === 'ready') process.stdout.write(JSON.stringify({ folder: cluster.folder }) + '\\n');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', program], {
      cwd: path.resolve(import.meta.dirname, '..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { folder } = JSON.parse(line.toString()) as { folder: string };
    const pids = treeOf([child.pid ?? 0]);
    expect(pids.length).toBeGreaterThan(5);
    child.kill('SIGKILL');
    await expect.poll(() => pids.filter(alive), { timeout: 30_000 }).toEqual([]);
    expect(readdirSync(path.join(cache.folder, 'store', 'pins'))).toEqual([]);
    // It holds the keys: the children remove it when the one who made it can't.
    expect(existsSync(folder)).toBe(false);
  });
});
