// The bench runs, with every arrangement and real processes, and says what it claims. What it measures is no test's business.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { expect, it } from 'vitest';

const RUN_TIMEOUT_MS = 300_000;

interface Figure {
  readonly median: number;
}

interface Report {
  readonly decode: {
    readonly table: readonly {
      readonly arrangement: string;
      readonly milliseconds_a_token: Figure;
      readonly milliseconds_a_hop?: Figure;
      readonly stages_milliseconds?: readonly Figure[];
    }[];
  };
  readonly prompt: { readonly speedup: Figure };
  readonly warden: { readonly milliseconds_with: Figure; readonly milliseconds_without: Figure };
  readonly start: { readonly seconds_to_first_token: Figure };
  readonly memory: { readonly table: readonly { program: string; peak_mib: number }[] };
  readonly transfer: { readonly of_cat: Figure };
  readonly claims: readonly { readonly what: string; readonly measured: number }[];
}

const bench = (...args: string[]) =>
  spawnSync(process.execPath, [path.join(REPOSITORY, 'scripts/bench.mjs'), ...args], {
    encoding: 'utf8',
    timeout: RUN_TIMEOUT_MS,
  });

it('measures every part with a tiny model', { timeout: RUN_TIMEOUT_MS + 10_000 }, () => {
  const run = bench('--quick', '--json');
  expect(run.status, run.stderr).toBe(0);
  const { decode, prompt, warden, start, memory, transfer, claims } = JSON.parse(
    run.stdout,
  ) as Report;
  expect(decode.table.map((row) => row.arrangement)).toEqual([
    'whole',
    '2 stages in one process',
    '2 nodes',
  ]);
  for (const row of decode.table) expect(row.milliseconds_a_token.median).toBeGreaterThan(0);
  const [, , two] = decode.table;
  // A difference of two clocks over very few tokens: below zero when the machine was busy with something else.
  expect(Number.isFinite(two?.milliseconds_a_hop?.median)).toBe(true);
  expect(two?.stages_milliseconds).toHaveLength(2);
  for (const stage of two?.stages_milliseconds ?? []) expect(stage.median).toBeGreaterThan(0);
  expect(prompt.speedup.median).toBeGreaterThan(0);
  expect(warden.milliseconds_with.median).toBeGreaterThan(0);
  expect(warden.milliseconds_without.median).toBeGreaterThan(0);
  expect(start.seconds_to_first_token.median).toBeGreaterThan(0);
  expect(memory.table.map(({ program }) => program)).toEqual([
    'minikeep',
    'coordinator',
    'agent',
    'warden',
  ]);
  for (const { program, peak_mib } of memory.table) expect(peak_mib, program).toBeGreaterThan(1);
  expect(transfer.of_cat.median).toBeGreaterThan(0);
  for (const claim of claims) expect(Number.isFinite(claim.measured), claim.what).toBe(true);
});

it('refuses a part that it does not have', () => {
  const run = bench('--only', 'speed');
  expect(run.status).toBe(2);
  expect(run.stderr).toContain('error usage.bench: there is no part "speed"');
});
