// The bench runs, with every arrangement and real processes, and says what it claims. What it measures is no test's business.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { randomModelFile, REPOSITORY } from '@minikeep/testkit';
import { expect, it } from 'vitest';

const RUN_TIMEOUT_MS = 240_000;

interface Report {
  readonly decode: {
    readonly table: readonly {
      readonly arrangement: string;
      readonly milliseconds_a_token: { readonly median: number };
      readonly milliseconds_a_hop?: { readonly median: number };
    }[];
    readonly trusted: readonly { readonly program: string; readonly peak_mib: number }[];
  };
  readonly prompt: { readonly speedup: { readonly median: number } };
  readonly claims: readonly { readonly what: string; readonly measured: number }[];
}

it('measures a tiny model', { timeout: RUN_TIMEOUT_MS + 10_000 }, async () => {
  const file = await randomModelFile('qwen2', { weights: 'Q8_0' });
  const args = ['--model', file, '--only', 'decode,prompt', '--json'];
  const few = [
    '--rounds',
    '2',
    '--tokens',
    '6',
    '--nodes',
    '2',
    '--threads',
    '1',
    '--prompt',
    '300',
  ];
  const run = spawnSync(
    process.execPath,
    [path.join(REPOSITORY, 'scripts/bench.mjs'), ...args, ...few, '--prompt-rounds', '1'],
    { encoding: 'utf8', timeout: RUN_TIMEOUT_MS },
  );
  expect(run.status, run.stderr).toBe(0);
  const report = JSON.parse(run.stdout) as Report;
  expect(report.decode.table.map((row) => row.arrangement)).toEqual([
    'whole',
    'whole, no sandbox',
    '2 stages in one process',
    '2 nodes',
  ]);
  for (const row of report.decode.table) expect(row.milliseconds_a_token.median).toBeGreaterThan(0);
  expect(report.decode.table.at(-1)?.milliseconds_a_hop?.median).toBeGreaterThan(0);
  expect(new Set(report.decode.trusted.map((t) => t.program))).toEqual(
    new Set(['coordinator', 'agent', 'warden']),
  );
  expect(report.prompt.speedup.median).toBeGreaterThan(0);
  for (const claim of report.claims) expect(Number.isFinite(claim.measured), claim.what).toBe(true);
});
