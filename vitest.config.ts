// One place for what every test run shares: where tests lie, how long they may take, how they end.
import { defineConfig } from 'vitest/config';

const long = process.env['MINIKEEP_LONG'] === '1';

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['./scripts/vitest-setup.mjs'],
    // Tests start real processes on what may be two shared cores.
    testTimeout: long ? 30 * 60_000 : 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    pool: 'forks',
    maxWorkers: 2,
    // A test that only sometimes passes is a failing test.
    retry: 0,
    allowOnly: false,
    sequence: { concurrent: false },
    reporters: ['default', './scripts/vitest-report.mjs'],
  },
});
