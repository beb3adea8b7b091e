/**
 * Layers on nodes with disks of their own: what a node holds is not sent, what another holds comes from there, also while
 * the disk with the model is away; what nobody holds is named. Real nodes with homes.
 */
import { copyFileSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { ExactMode, type DeploymentStatus } from '@minikeep/protocol/v1';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withOperator } from '../src/operator-connection.ts';
import { ask, failure, tokens } from './cluster-helpers.ts';
import { Homes } from './homes.ts';

const TIMEOUT_MS = 120_000;
const NAME = 'layers';
const homes = new Homes();
let file = '';

beforeAll(async () => {
  file = path.join(homes.root, 'tiny.gguf');
  copyFileSync(await randomModelFile('llama', { layers: 6 }), file);
  const first = await homes.startFirst('a', '--node-name', 'a');
  const token = await homes.token('a');
  const address = first.last('coordinator')?.address ?? '';
  await homes.json('b', 'join', address, '--token-file', token, '--name', 'b');
  await homes.start('b');
  await homes.untilStates('a', { a: 'up', b: 'up' });
}, TIMEOUT_MS);
afterAll(() => homes.close());

const operator = <T>(use: Parameters<typeof withOperator<T>>[1]): Promise<T> =>
  withOperator({ home: homes.home('a') }, use);

/** Brings the model up on those nodes, in that order, asks it, and takes it down. */
async function answerOn(nodes: readonly string[], cuts: readonly number[]): Promise<number[]> {
  return operator(async ({ operator: client }) => {
    let status: DeploymentStatus | undefined;
    for await (const { event } of client.deploy({
      name: NAME,
      model: 'tiny',
      nodes: [...nodes],
      cuts: [...cuts],
      context: {
        nCtx: 256,
        nBatch: 64,
        nSeqMax: 1,
        mode: ExactMode.EXACT_MODE_EXACT,
        threads: 1,
        gpu: false,
      },
    }))
      if (event?.$case === 'ready') status = event.value.deployment;
    expect(status?.stages.map((stage) => stage.node)).toEqual(nodes);
    const answer = await ask({ operator: client }, tokens([5, 9, 14]), {
      deployment: NAME,
      maxTokens: 8,
    });
    await client.undeploy({ name: NAME });
    return answer.ids;
  });
}

const storeOf = (node: string): string => path.join(homes.home(node), 'store', 'slices');
const storedBytes = (node: string): number =>
  readdirSync(storeOf(node))
    .filter((name) => name.endsWith('.gguf'))
    .reduce((sum, name) => sum + statSync(path.join(storeOf(node), name)).size, 0);

describe('an imported model', { timeout: TIMEOUT_MS }, () => {
  let ids: number[] = [];

  it('is taken in, listed and forgotten by the coordinator that runs', async () => {
    const imported = await homes.json('a', 'model', 'import', file, '--yes');
    expect(imported).toMatchObject({ name: 'tiny', path: file });
    expect(await homes.json('a', 'model', 'list')).toMatchObject({ models: [{ name: 'tiny' }] });
    const elsewhere = await homes.run('b', 'model', 'list', '--json');
    expect(elsewhere.stderr).toContain('home.not_coordinator');
    await homes.json('a', 'model', 'rm', 'tiny');
    await homes.json('a', 'model', 'import', file, '--yes');
  });

  it('comes to each node in its own layers only', async () => {
    ids = await answerOn(['a', 'b'], [2]);
    expect(storedBytes('b')).toBeGreaterThan(0);
    const whole = statSync(file).size;
    expect(storedBytes('a') + storedBytes('b')).toBeLessThan(whole * 1.5);
    expect(storedBytes('b')).toBeLessThan(whole);
  });

  it('is up again, differently cut and the other way round, while its file is away', async () => {
    renameSync(file, `${file}.away`);
    try {
      expect(await homes.json('a', 'model', 'list')).toMatchObject({
        models: [{ present: false }],
      });
      // Every layer lies on one of the two; the first two have to go from a to b, the others back.
      expect(await answerOn(['b', 'a'], [3])).toEqual(ids);
      expect(await answerOn(['a', 'b'], [4])).toEqual(ids);
    } finally {
      renameSync(`${file}.away`, file);
    }
  });

  it('whose layers nobody holds is refused, and the file that is missing is named', async () => {
    renameSync(file, `${file}.away`);
    try {
      for (const node of ['a', 'b'])
        for (const name of readdirSync(storeOf(node))) rmSync(path.join(storeOf(node), name));
      const error = await failure(answerOn(['a', 'b'], [2]));
      expect(error.code).toBe('store.layers_missing');
      expect(error.message).toContain('layers 0-5');
      expect(error.message).toContain(file);
    } finally {
      renameSync(`${file}.away`, file);
    }
    expect(await answerOn(['a', 'b'], [2])).toEqual(ids);
  });
});
