/** The canary on the real sandbox: everything refused and reported; and it must fail where there is a hole. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { checklistFor } from '../src/canary/checklist.ts';
import {
  type CanaryReport,
  runCanary,
  type SandboxPlatform,
  sandboxPlatform,
} from '../src/index.ts';

const TIME_MS = 120_000;
const linux = process.platform === 'linux' && process.arch === 'x64';
const some = (...ids: string[]) => checklistFor('linux').filter((item) => ids.includes(item.id));
const attempt = (report: CanaryReport, name: string) =>
  report.attempts.find((a) => a.name === name);

describe.runIf(linux)('canary in the real sandbox', () => {
  it(
    'sees every attempt refused and reported, in both phases',
    async () => {
      const told: string[] = [];
      const report = await runCanary(sandboxPlatform(), { onAttempt: (a) => told.push(a.name) });
      expect(report.attempts.filter((a) => a.fault !== '')).toEqual([]);
      expect(report.inspections.filter((i) => !i.ok)).toEqual([]);
      expect(report.unexplained).toEqual([]);
      expect(report).toMatchObject({ ok: true, state: 'passed', platform: 'linux' });
      expect(report.attempts.length).toBeGreaterThan(150);
      expect(told.toSorted()).toEqual(report.attempts.map((a) => a.name).toSorted());
      expect(new Set(report.instances).size).toBe(report.instances.length);
      expect(attempt(report, 'network-tcp-v4')?.reported_as).toContain('192.0.2.1:443');
      expect(attempt(report, 'names-getaddrinfo')?.reported_as).toContain(
        'library.canary.minikeep',
      );
      for (const pid of spawnSync('ps', ['-eo', 'args']).stdout.toString().split('\n'))
        expect(pid).not.toContain(`warden.mjs ${process.pid}`);
    },
    TIME_MS,
  );

  it(
    'fails when the sandbox hands over a file that is not its own',
    async () => {
      const report = await runCanary(sandboxPlatform(), {
        items: some('reading-node-key', 'reading-accounts'),
        files: (facts) => [String(facts['node_key'])],
      });
      expect(report).toMatchObject({ ok: false, state: 'failed' });
      expect(attempt(report, 'reading-node-key-start')).toMatchObject({
        refused: false,
        reported: false,
      });
      expect(attempt(report, 'reading-node-key-start')?.fault).toContain('NOT refused');
      expect(attempt(report, 'reading-accounts-start')?.fault).toBe('');
    },
    TIME_MS,
  );

  it(
    'is blind when attempts are refused and the monitor says nothing',
    async () => {
      const real = sandboxPlatform();
      const mute: SandboxPlatform = {
        support: () => real.support(),
        launch: async (spec) => {
          const sandbox = await real.launch(spec);
          sandbox.onViolation = () => undefined;
          return sandbox;
        },
      };
      const report = await runCanary(mute, { items: some('programs-shell') });
      expect(report).toMatchObject({ ok: false, state: 'blind' });
      expect(report.attempts.map((a) => [a.refused, a.reported])).toEqual([
        [true, false],
        [true, false],
      ]);
    },
    TIME_MS,
  );

  it(
    'fails when the monitor names another place than the attempt aimed at',
    async () => {
      const real = sandboxPlatform();
      const vague: SandboxPlatform = {
        support: () => real.support(),
        launch: async (spec) => {
          const sandbox = await real.launch(spec);
          const listen = sandbox.onViolation.bind(sandbox);
          sandbox.onViolation = (told) =>
            listen((v) => told({ ...v, target: v.target.replace('192.0.2.1', '192.0.2.2') }));
          return sandbox;
        },
      };
      const report = await runCanary(vague, { items: some('network-tcp-v4', 'network-raw') });
      expect(report.state).toBe('blind');
      expect(attempt(report, 'network-tcp-v4')).toMatchObject({ refused: true, reported: false });
      expect(attempt(report, 'network-raw')).toMatchObject({ refused: true, reported: true });
    },
    TIME_MS,
  );

  it(
    'knows its attempts in folders of any name and length',
    async () => {
      const base = mkdtempSync(path.join(tmpdir(), 'minikeep-canary-test-'));
      try {
        const names = ['küche "模型" \\x', path.join(...Array<string>(4).fill('é'.repeat(100)))];
        for (const cache of names.map((name) => path.join(base, name))) {
          mkdirSync(cache, { recursive: true });
          const report = await runCanary(sandboxPlatform(), {
            items: some('writing-cache', 'writing-temp'),
            cache,
          });
          expect(report.attempts.map(({ fault }) => fault)).toEqual(['', '', '', '']);
          expect(report.ok).toBe(true);
        }
      } finally {
        rmSync(base, { recursive: true });
      }
    },
    TIME_MS,
  );

  it(
    'ends at once when it is interrupted',
    async () => {
      const signal = AbortSignal.timeout(1_000);
      await expect(runCanary(sandboxPlatform(), { signal })).rejects.toThrow(/abort|interrupted/);
    },
    TIME_MS,
  );
});

describe('checklist', () => {
  it('gives each item a name of its own, of the form group-what', () => {
    const items = checklistFor('linux');
    expect(new Set(items.map((item) => item.id)).size).toBe(items.length);
    for (const item of items) expect(item.id).toMatch(new RegExp(`^${item.group}-[a-z0-9-]+$`));
  });

  it('expects a report of every way, unless it says why there can be none', () => {
    for (const item of checklistFor('linux'))
      for (const way of item.ways)
        expect(way.report.operations.length > 0, item.id).toBe(item.unreportable === undefined);
  });
});
