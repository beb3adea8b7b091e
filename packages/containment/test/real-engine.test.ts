// The engine itself, as bundled, in the sandbox: it starts without an attempt, guards itself, and its crash is a record.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { onlyOn } from '@minikeep/testkit';
import { expect, it } from 'vitest';
import { sandboxPlatform, type Violation } from '../src/index.ts';
import { DIST } from './hostile/attacked.ts';

it('starts clean, is undumpable, and a crash leaves by its handler', async (ctx) => {
  onlyOn(ctx, 'linux');
  const library_dir = path.join(DIST, 'lib');
  const engine = await sandboxPlatform().launch({
    purpose: 'stage',
    entry: path.join(DIST, 'engine.mjs'),
    args: readdirSync(library_dir).map((name) => path.join(library_dir, name)),
    files: [],
    library_dir,
  });
  const violations: Violation[] = [];
  engine.onViolation((violation) => violations.push(violation));
  // Its hello: the libraries are loaded.
  await new Promise<void>((resolve) => engine.output.once('data', () => resolve()));
  expect(violations).toEqual([]);
  expect(engine.filesRead).toContain(path.join(DIST, 'engine.mjs'));
  // The kernel gives the entries of an undumpable process to root.
  expect(statSync(`/proc/${engine.pid}/environ`).uid).toBe(0);
  const caught = /^SigCgt:\s+(\w+)/m.exec(readFileSync(`/proc/${engine.pid}/status`, 'utf8'))?.[1];
  for (const signal of [4, 5, 7, 8, 11])
    expect((BigInt(`0x${caught}`) >> BigInt(signal - 1)) & 1n, `signal ${signal}`).toBe(1n);
  process.kill(engine.pid, 'SIGSEGV');
  expect(await engine.exited).toMatchObject({ code: 11, signal: null });
  expect(violations).toMatchObject([{ kind: 'crash', operation: 'SIGSEGV', refused_by: 'kernel' }]);
});
