/**
 * Plans on a running cluster: what each node has and how fast it was measured; and layers that follow from that. Real
 * nodes with homes, a real engine that is measured.
 */
import { copyFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { MINIKEEP_VERSION } from '@minikeep/protocol';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Homes } from './homes.ts';
import { jsonError } from './minikeep.ts';

const TIMEOUT_MS = 300_000;
const LAYERS = 12;
const homes = new Homes();

interface Planned {
  readonly stages: { readonly node: string; readonly layers: [number, number] }[];
  readonly token_seconds?: number;
}

/** As a node keeps what was measured. */
function keepSpeed(home: string, gigabytes: number): void {
  writeFileSync(
    path.join(homes.home(home), 'speed.json'),
    JSON.stringify({
      minikeep_version: MINIKEEP_VERSION,
      measured_at_seconds: 1_700_000_000,
      memory_bytes_per_second: gigabytes * 1e9,
      operations_per_second: 1e15,
    }),
    { mode: 0o600 },
  );
}

beforeAll(async () => {
  const file = path.join(homes.root, 'tiny.gguf');
  // A small head: what a node gets follows from its speed.
  copyFileSync(await randomModelFile('llama', { layers: LAYERS }), file);
  const first = await homes.startFirst('a', '--node-name', 'a');
  const token = await homes.token('a');
  const address = first.last('coordinator')?.address ?? '';
  await homes.json('b', 'join', address, '--token-file', token, '--name', 'b');
  keepSpeed('b', 200);
  await homes.start('b');
  await homes.untilStates('a', { a: 'up', b: 'up' });
  await homes.json('a', 'model', 'import', file, '--name', 'tiny', '--yes');
}, TIMEOUT_MS);
afterAll(() => homes.close());

const speeds = async (): Promise<Record<string, number | undefined>> => {
  const { nodes } = await homes.json<{
    nodes: { name: string; speed: { memory_bytes_per_second: number } | null }[];
  }>('a', 'nodes');
  return Object.fromEntries(nodes.map((n) => [n.name, n.speed?.memory_bytes_per_second]));
};

it(
  'a node is measured once and remembers it; nothing is predicted before',
  { timeout: TIMEOUT_MS },
  async () => {
    expect(await speeds()).toEqual({ a: undefined, b: 200e9 });
    const before = await homes.json<Planned>('a', 'plan', 'tiny');
    expect(before.stages.map((s) => s.node)).toEqual(['a', 'b']);
    expect(before.token_seconds).toBeUndefined();
    const measured = await homes.json<Planned>('a', 'plan', 'tiny', '--measure');
    expect(measured.token_seconds).toBeGreaterThan(0);
    const { a, b } = await speeds();
    // Slower than any machine, or faster than any memory: that would be no measurement.
    for (const speed of [a, b]) {
      expect(speed).toBeGreaterThan(1e8);
      expect(speed).toBeLessThan(2e12);
    }
    expect(b).not.toBe(200e9);
    expect(existsSync(path.join(homes.home('a'), 'speed.json'))).toBe(true);
    // Nothing else is left to do for the next plan.
    const again = await homes.json<Planned>('a', 'plan', 'tiny');
    expect(again.token_seconds).toBe(measured.token_seconds);
  },
);

it(
  'layers follow what was measured: in the plan, and when the model comes up',
  { timeout: TIMEOUT_MS },
  async () => {
    await Promise.all([...homes.running].map((node) => node.stop()));
    keepSpeed('a', 100);
    keepSpeed('b', 300);
    await homes.start('a');
    await homes.start('b');
    await homes.untilStates('a', { a: 'up', b: 'up' });
    expect(await speeds()).toEqual({ a: 100e9, b: 300e9 });
    const planned = await homes.json<Planned>('a', 'plan', 'tiny', '--context', '256');
    const [a, b] = planned.stages;
    expect(a?.node).toBe('a');
    expect(b?.node).toBe('b');
    const cut = a?.layers[1] ?? 0;
    expect(cut).toBeLessThan(LAYERS / 2);
    await homes.json('a', 'up', 'tiny', '--context', '256', '--no-canary');
    const { deployments } = await homes.json<{
      deployments: { stages: { node: string; layers: [number, number] }[] }[];
    }>('a', 'status');
    expect(deployments[0]?.stages.map((s) => [s.node, s.layers])).toEqual([
      ['a', [0, cut]],
      ['b', [cut, LAYERS]],
    ]);
    const busy = await homes.run('a', 'plan', 'tiny', '--measure', '--json');
    expect(jsonError(busy)).toMatchObject({ code: 'measure.busy' });
    await homes.json('a', 'down', 'tiny');
  },
);

it(
  'the first model that comes up measures who never was, and tries its backend; plans show both',
  { timeout: TIMEOUT_MS },
  async () => {
    await Promise.all([...homes.running].map((node) => node.stop()));
    rmSync(path.join(homes.home('b'), 'speed.json'));
    await homes.start('a');
    await homes.start('b');
    await homes.untilStates('a', { a: 'up', b: 'up' });
    expect(await speeds()).toEqual({ a: 100e9, b: undefined });
    await homes.json('a', 'up', 'tiny', '--context', '256');
    const { a, b } = await speeds();
    expect(a).toBe(100e9);
    expect(b).toBeGreaterThan(1e8);
    const { stages } = await homes.json<{
      stages: { model_check: { status: string } }[];
    }>('a', 'plan', 'tiny');
    expect(stages.map((stage) => stage.model_check.status)).toEqual(['exact', 'exact']);
    const text = await homes.run('a', 'plan', 'tiny');
    expect(text.stdout).toMatch(/used +check\n.* exact\n.* exact\n/);
    await homes.json('a', 'down', 'tiny');
  },
);
