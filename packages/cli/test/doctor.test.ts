// `minikeep doctor` on this machine: the engine and the sandbox are tried for real, and the result is kept.
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { Finding, MachineFacts } from '@minikeep/doctor';
import { minikeep } from './minikeep.ts';

/** Engines, one after the other, on a machine that may be busy. */
const TIMEOUT_MS = 180_000;

interface Result {
  readonly blocks: boolean;
  readonly findings: readonly Finding[];
  readonly facts: MachineFacts;
}

it(
  'tries the engine where it runs, compares, and keeps the result in the home',
  async () => {
    const home = mkdtempSync(path.join(tmpdir(), 'minikeep-doctor-home-'));
    try {
      const ended = await minikeep(['doctor', '--json', '--home', home]);
      const result = JSON.parse(ended.stdout) as Result;
      expect(ended.code, ended.stdout).toBe(result.blocks ? 3 : 0);
      const { engine, sandbox, model_check: check } = result.facts;
      expect(sandbox).toMatchObject({ ok: true });
      expect(engine).toMatchObject({ started: true });
      if (engine.started) expect(engine.devices.map((device) => device.kind)).toContain('cpu');
      expect(check).toMatchObject({ status: 'exact' });
      const kept = path.join(home, 'doctor.json');
      expect(JSON.parse(readFileSync(kept, 'utf8'))).toMatchObject({
        facts: { model_check: check },
      });
      expect(statSync(kept).mode & 0o777).toBe(0o600);
    } finally {
      rmSync(home, { recursive: true });
    }
  },
  TIMEOUT_MS,
);

it(
  'says that the comparison did not run when it was not wanted',
  async () => {
    const ended = await minikeep(['doctor', '--no-model-check']);
    expect(ended.stdout).toContain('not run');
    expect(ended.stdout).toMatch(/block/);
  },
  TIMEOUT_MS,
);
