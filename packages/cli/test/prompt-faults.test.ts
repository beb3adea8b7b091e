/** What breaks before the first token: in the middle of a long prompt, or in the engine that reads it. */
import { readFileSync } from 'node:fs';
import type { DeploymentStatus } from '@minikeep/protocol/v1';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { LocalCluster } from '../src/local-cluster.ts';
import {
  Cache,
  alive,
  ask,
  chat,
  deploy,
  expectNothingLeft,
  failure,
  processesOf,
  start,
  tokens,
} from './cluster-helpers.ts';

const TIMEOUT_MS = 180_000;
/** Silence of 4 s once the speed is known, 10 s before; two looks at the stages; a slow machine. */
const STALL_SECONDS_MAX = 40;
const RESTARTS_MAX = 3;
const LONG_PROMPT = Array.from({ length: 7_000 }, (_, i) => 3 + ((i * 7) % 200));

let cache: Cache;
let model: string;
beforeAll(async () => {
  cache = new Cache();
  model = await randomModelFile('llama', { layers: 16 });
});
afterAll(() => cache.remove());

let cluster: LocalCluster;
let status: DeploymentStatus;
let pids: number[] = [];
beforeEach(async () => {
  cluster = await start(2, cache);
  status = await deploy(cluster, model, { context: 8192, parallel: 2 });
  pids = processesOf(cluster);
});
afterEach(async () => {
  await cluster?.stop();
  await expectNothingLeft(pids, cluster.folder);
});

const enginePid = (stage: number): number => status.stages[stage]?.enginePid ?? 0;

describe('a stage that stops answering', { timeout: TIMEOUT_MS }, () => {
  it('in the middle of a long prompt is named', async () => {
    let stopped = 0;
    const error = await failure(
      ask(cluster, tokens(LONG_PROMPT), {
        onPrefill: () => {
          if (stopped > 0) return;
          stopped = performance.now();
          process.kill(enginePid(1), 'SIGSTOP');
        },
      }),
    );
    expect(stopped).toBeGreaterThan(0);
    expect(error).toMatchObject({ code: 'stage.stalled', exitCode: 4 });
    expect(error.message).toContain('on node node-2');
    expect((performance.now() - stopped) / 1000).toBeLessThan(STALL_SECONDS_MAX);
  });

  it('before the first step of all is named, too', async () => {
    process.kill(enginePid(0), 'SIGSTOP');
    const asked = performance.now();
    const error = await failure(ask(cluster, tokens(LONG_PROMPT)));
    expect(error).toMatchObject({ code: 'stage.stalled', exitCode: 4 });
    expect(error.message).toContain('on node node-1');
    expect((performance.now() - asked) / 1000).toBeLessThan(STALL_SECONDS_MAX);
  });
});

describe('a text engine that is killed', { timeout: TIMEOUT_MS }, () => {
  /** The engine process that serves no stage. */
  function textEngine(): number {
    const stages = status.stages.map((stage) => stage.enginePid);
    const found = processesOf(cluster).filter((pid) => {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return command.some((word) => word.endsWith('/engine.mjs')) && !stages.includes(pid);
    });
    // What stands between (warden, launcher) may name the program, too: the engine is the youngest.
    return Math.max(...found);
  }

  async function killed(): Promise<void> {
    const pid = textEngine();
    expect(pid).toBeGreaterThan(0);
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => alive(pid), { timeout: 10_000 }).toBe(false);
  }

  it('is started again for the next prompt; answers under way do not notice; too often is one clear error', async () => {
    const first = await ask(cluster, chat('Hi'));
    // This answer needs no text engine any more.
    let during: Promise<void> | undefined;
    const under = ask(cluster, tokens([5, 9, 14]), {
      maxTokens: 2_000,
      onToken: (count) => {
        if (count === 5) during = killed();
      },
    });
    expect((await under).ids).toHaveLength(2_000);
    await during;
    for (let i = 0; i < RESTARTS_MAX; i++) {
      if (i > 0) await killed();
      const again = await ask(cluster, chat('Hi')).catch((error: unknown) => error);
      // Whoever asks in the very moment of its death is told; the next one is answered.
      const answer = again instanceof Error ? await ask(cluster, chat('Hi')) : again;
      expect(answer).toMatchObject({ ids: first.ids });
    }
    await killed();
    await expect
      .poll(async () => (await failure(ask(cluster, chat('Hi')))).code, { timeout: 10_000 })
      .toBe('engine.text_died');
    const error = await failure(ask(cluster, chat('Hi')));
    expect(error.message).toContain('the text engine on node node-1 is gone');
    expect(error.exitCode).toBe(1);
    // Stages are untouched: token ids are still answered.
    expect((await ask(cluster, tokens([5, 9, 14]))).ids).toHaveLength(16);
  });
});
