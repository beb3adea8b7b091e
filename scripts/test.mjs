// npm test: what a reader's eye should not have to check (lint, types, form, arrows), then every test.
// Ends with what was skipped, why and how to get it, and the line `N passed, N failed`.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT } from './setup.mjs';

const STEP_TIMEOUT_MS = 5 * 60_000;
const TESTS_TIMEOUT_MS = (process.env['MINIKEEP_LONG'] === '1' ? 12 * 60 : 30) * 60_000;
const NO_SKIP = process.env['MINIKEEP_NO_SKIP'] === '1';
/** A skipped test whose reason begins so can't be had by installing something: it is listed, and never a failure. */
const NOT_HERE = 'not here: ';

const modules = (file) => path.join(ROOT, 'node_modules', file);
const CHECKS = [
  ['lint', [modules('oxlint/bin/oxlint'), '--deny-warnings']],
  ['types', [modules('typescript/bin/tsc'), '-p', '.']],
  ['format', [modules('oxfmt/bin/oxfmt'), '--check', '.']],
  [
    'dependency rules',
    [
      modules('dependency-cruiser/bin/dependency-cruiser.mjs'),
      'packages',
      'scripts',
      '--config=.dependency-cruiser.mjs',
      '--output-type=err-long',
    ],
  ],
];

let child;
let interrupted = false;
process.on('SIGINT', () => (interrupted = true));
process.on('SIGTERM', () => {
  interrupted = true;
  child?.kill('SIGTERM');
});

/** Runs one program of ours with the pinned Node; resolves with its exit status (1 when it ran out of time). */
function run(args, { timeout, quiet, env }) {
  return new Promise((resolve) => {
    let output = '';
    child = spawn(process.execPath, args, {
      cwd: ROOT,
      stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
      env: { ...process.env, ...env },
    });
    child.stdout?.on('data', (d) => (output += d));
    child.stderr?.on('data', (d) => (output += d));
    const timer = setTimeout(() => {
      output += `\ngave up after ${timeout / 1000} s\n`;
      child.kill('SIGKILL');
    }, timeout);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ ok: code === 0, output });
    });
  });
}

let passed = 0;
let failed = 0;
for (const [name, args] of CHECKS) {
  const started = performance.now();
  const { ok, output } = await run(args, { timeout: STEP_TIMEOUT_MS, quiet: true });
  if (interrupted) process.exit(130);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`${ok ? '✓' : '✗'} ${name} (${seconds} s)\n`);
  if (ok) passed++;
  else {
    failed++;
    process.stdout.write(`${output.trimEnd()}\n`);
    if (name === 'format') process.stdout.write('  next: npm run format\n');
  }
}

const scratch = mkdtempSync(path.join(tmpdir(), 'minikeep-test-'));
const reportFile = path.join(scratch, 'report.json');
let report;
try {
  const tests = await run([modules('vitest/vitest.mjs'), 'run', ...process.argv.slice(2)], {
    timeout: TESTS_TIMEOUT_MS,
    quiet: false,
    env: { MINIKEEP_TEST_REPORT: reportFile },
  });
  report = existsSync(reportFile)
    ? JSON.parse(readFileSync(reportFile, 'utf8'))
    : { passed: 0, failed: 0, skipped: [], errors: 1 };
  // A run that says "not ok" without a failed test had an error outside of any test.
  if (!tests.ok && report.failed === 0 && report.errors === 0) report.errors = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
if (interrupted) process.exit(130);
passed += report.passed;
failed += report.failed + report.errors;

/** One kind of skipped tests: the reason, then the tests. */
function list(title, skipped) {
  if (skipped.length === 0) return;
  process.stdout.write(`\n${title}: ${skipped.length}\n`);
  for (const [reason, tests] of Map.groupBy(skipped, (t) => t.reason)) {
    process.stdout.write(`  ${reason.replace(NOT_HERE, '')} (${tests.length})\n`);
    for (const t of tests.slice(0, 10)) process.stdout.write(`      ${t.name}\n`);
    if (tests.length > 10) process.stdout.write(`      … and ${tests.length - 10} more\n`);
  }
}
const impossible = report.skipped.filter((t) => t.reason.startsWith(NOT_HERE));
const missing = report.skipped.filter((t) => !t.reason.startsWith(NOT_HERE));
list('not run, because this machine can not have what they need (never a failure)', impossible);
list(
  NO_SKIP
    ? '✗ skipped, and skipping is forbidden here (MINIKEEP_NO_SKIP=1): each counts as failed'
    : 'skipped, because this machine lacks something that can be installed',
  missing,
);
if (NO_SKIP) failed += missing.length;
if (passed === 0) failed = Math.max(failed, 1);
process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
