/**
 * The coordinator is killed (SIGKILL) at random instants of `up` and `down`, again and again: what was acknowledged
 * holds, and nothing is half there. The seed is printed with a failure: MINIKEEP_SEED repeats it.
 */
import { randomModelFile } from '@minikeep/testkit';
import { DeployPhase, DeploymentState } from '@minikeep/protocol/v1';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { setTimeout as pause } from 'node:timers/promises';
import { Cache, ask, familyOf, guardOf, tokens } from './cluster-helpers.ts';
import { KeptCluster, NAME } from './kept-cluster.ts';

const KILLS = process.env['MINIKEEP_LONG'] === '1' ? 1_000 : 12;
const KILLS_A_ROUND = 7;
const WAIT = { timeout: 120_000, interval: 50 };
const seed = Number(process.env['MINIKEEP_SEED'] ?? Date.now() % 2 ** 31);

let state = seed;
/** 0 <= x < 1; xorshift. */
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

let cache: Cache;
let cluster: KeptCluster;
beforeAll(async () => {
  cache = new Cache();
  cluster = await KeptCluster.start(2, await randomModelFile('llama', { layers: 4 }), cache);
});
afterAll(async () => {
  await cluster?.stop();
  cache.remove();
});

/** Everything that the agents started. */
function engines(): number[] {
  const agents = cluster.local.nodes.map(({ name }) => cluster.pid(name));
  const trusted = [...agents, ...agents.map(guardOf)];
  return familyOf(agents).filter((pid) => !trusted.includes(pid));
}

const answer = async () =>
  (await ask(cluster.now, tokens([5, 9, 14]), { deployment: NAME, maxTokens: 8 })).ids;

/** Kills it after a while that reaches any part of what is under way, and starts it again. */
async function killSoon(longestMs: number): Promise<void> {
  await pause(random() * longestMs);
  await cluster.killCoordinator();
  await cluster.startCoordinator();
}

it(
  `${KILLS} kills of the coordinator in the middle of up and down (seed ${seed})`,
  async () => {
    const took = performance.now();
    await cluster.up();
    const upMs = performance.now() - took;
    const whole = engines().length;
    const fresh = await answer();
    let epoch = (await cluster.status())?.epoch ?? 0;
    for (let kills = 0; kills < KILLS;) {
      // down: whether it was told or not, it is one or the other for good.
      const down = cluster.now.operator.undeploy({ name: NAME }).then(
        () => true,
        () => false,
      );
      await killSoon(200);
      kills++;
      const acknowledged = await down;
      const still = (await cluster.status()) !== undefined;
      if (acknowledged) expect(still).toBe(false);
      if (still) await cluster.now.operator.undeploy({ name: NAME });
      await expect.poll(engines, WAIT).toEqual([]);

      let kept = false;
      const up = cluster
        .up({
          onEvent: (event) => {
            // Nothing is sent before it is kept that it is wanted.
            kept ||=
              event.$case === 'ready' ||
              (event.$case === 'progress' && event.value.phase >= DeployPhase.DEPLOY_PHASE_SENDING);
          },
        })
        .catch(() => {});
      await killSoon(upMs);
      kills++;
      await up;
      const there = (await cluster.status()) !== undefined;
      if (kept) expect(there).toBe(true);
      if (there) {
        for (let i = 2; i < KILLS_A_ROUND; i++, kills++) await killSoon(upMs);
      } else await cluster.up();
      await expect
        .poll(async () => (await cluster.status())?.state, WAIT)
        .toBe(DeploymentState.DEPLOYMENT_STATE_READY);
      expect(await answer()).toEqual(fresh);
      await expect.poll(() => engines().length, WAIT).toBe(whole);
      const now = (await cluster.status())?.epoch ?? 0;
      expect(now).toBeGreaterThan(epoch);
      epoch = now;
    }
  },
  KILLS * 30_000,
);
