/** What breaks while a model is brought up: a node in the middle of a transfer, a file that changes, a damaged slice. */
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeployPhase } from '@minikeep/protocol/v1';
import { randomModelFile, TINY } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { LocalCluster } from '../src/local-cluster.ts';
import {
  Cache,
  ask,
  deploy,
  expectNothingLeft,
  failure,
  processesOf,
  start,
  tokens,
} from './cluster-helpers.ts';
import { writeSparseModel } from './sparse-model.ts';

const TIMEOUT_MS = 180_000;
/** What a death takes to be seen, on a busy machine. */
const DEATH_SECONDS_MAX = 20;
const LAYERS = 4;
/** 120 MB, so that a transfer is under way when its first progress is told. */
const LARGE = { ...TINY, embedding: 1024, heads: 8, headSize: 128, feedForward: 2048 };

let folder = '';
let large = '';
let cache: Cache;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-deploy-faults-'));
  large = path.join(folder, 'large.gguf');
  expect(await writeSparseModel(large, LARGE, LAYERS)).toBeGreaterThan(100e6);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let cluster: LocalCluster;
let pids: number[] = [];
beforeEach(async () => {
  cache = new Cache();
  cluster = await start(2, cache);
  pids = processesOf(cluster);
});
afterEach(async () => {
  pids = [...pids, ...processesOf(cluster)];
  await cluster?.stop();
  await expectNothingLeft(pids, cluster.folder);
  cache.remove();
});

/** What a folder of the store holds; folders of living owners are there as long as they are. */
const files = (part: string): string[] =>
  readdirSync(path.join(cache.folder, 'store', part), { recursive: true, encoding: 'utf8' }).filter(
    (name) => /\.(gguf|part)$/.test(name),
  );

describe('an agent that is killed', { timeout: TIMEOUT_MS }, () => {
  it.each([
    ['while a slice is on its way', DeployPhase.DEPLOY_PHASE_SENDING],
    ['while engines load', DeployPhase.DEPLOY_PHASE_LOADING],
  ])('%s ends the deployment at once, and is named', async (_, phase) => {
    let killed = 0;
    const error = await failure(
      deploy(cluster, large, {
        noText: true,
        onEvent(event) {
          if (event.$case !== 'progress' || event.value.phase !== phase || killed > 0) return;
          killed = performance.now();
          process.kill(cluster.nodes[0]?.pid ?? 0, 'SIGKILL');
        },
      }),
    );
    expect(killed).toBeGreaterThan(0);
    expect((performance.now() - killed) / 1000).toBeLessThan(DEATH_SECONDS_MAX);
    expect(error.message).toContain('node-1');
    expect(error).toMatchObject({ exitCode: 4 });
    // What the dead one had in use is let go of when the store is opened next; what it had half done is gone on with.
    const next = await start(2, cache);
    try {
      expect(files('pins')).toEqual([]);
      await deploy(next, large, { noText: true });
      const dead = `.${cluster.nodes[0]?.pid}.`;
      expect(files('incoming').filter((name) => name.includes(dead))).toEqual([]);
    } finally {
      await next.stop();
    }
  });
});

describe('a model file that is written to', { timeout: TIMEOUT_MS }, () => {
  it('while its slices are made is found out, and nothing is loaded', async () => {
    let changed = false;
    const error = await failure(
      deploy(cluster, large, {
        noText: true,
        onEvent(event) {
          const sending =
            event.$case === 'progress' && event.value.phase === DeployPhase.DEPLOY_PHASE_SENDING;
          if (!sending || changed) return;
          changed = true;
          appendFileSync(large, 'x');
        },
      }),
    );
    expect(changed).toBe(true);
    expect(error.code).toBe('gguf.changed');
    expect(error.message).toContain('large.gguf');
    // It is a valid model again, only another one: digests of the old one are not used for it.
    const status = await deploy(cluster, large, { noText: true });
    expect(status.stages).toHaveLength(2);
    expect(files('incoming').filter((name) => name.endsWith('.pieces'))).toEqual([]);
  });
});

describe('a stored slice that changed on the disk', { timeout: TIMEOUT_MS }, () => {
  it('is found out before it is loaded, removed, and sent again', async () => {
    const model = path.join(folder, 'small.gguf');
    copyFileSync(await randomModelFile('llama', { layers: 4 }), model);
    await deploy(cluster, model);
    const { ids } = await ask(cluster, tokens([5, 6, 7]));
    await cluster.operator.undeploy({ name: 'test' });
    const slices = files('slices').map((name) => path.join(cache.folder, 'store/slices', name));
    expect(slices.length).toBeGreaterThan(2);
    for (const slice of slices) {
      const bytes = readFileSync(slice);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      chmodSync(slice, 0o600);
      writeFileSync(slice, bytes);
    }
    // Every attempt removes what it finds damaged; after one for each slice all are whole again.
    const codes = new Set<string>();
    for (let i = 0; i <= slices.length; i++) {
      const outcome = await deploy(cluster, model).catch((error: { code: string }) => error.code);
      if (typeof outcome !== 'string') break;
      codes.add(outcome);
    }
    expect([...codes]).toEqual(['store.slice_damaged']);
    expect((await ask(cluster, tokens([5, 6, 7]))).ids).toEqual(ids);
  });
});
