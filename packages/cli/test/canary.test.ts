/** `minikeep canary` as a user types it, and what its report says when something is wrong. */
import { CanaryReport } from '@minikeep/protocol/v1';
import { REPOSITORY } from '@minikeep/testkit';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { beyondLines, groupLines, groupsOf } from '../src/canary-groups.ts';
import { verdict } from '../src/commands/canary.ts';
import { minikeep } from './minikeep.ts';
import { Place } from './nothing-left.ts';

const TIMEOUT_MS = 240_000;
const FILTERED =
  process.platform === 'linux' && /^Seccomp:\s*2$/m.test(readFileSync('/proc/self/status', 'utf8'));
const place = new Place();
afterAll(() => place.remove());

it(
  'reports what was tried, what was looked at and what nobody can show',
  { timeout: TIMEOUT_MS },
  async () => {
    const ended = await minikeep(['canary', '--json'], {
      env: place.env,
      timeoutMs: TIMEOUT_MS,
      onStart: (child) => place.watch(child),
    });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const report = JSON.parse(ended.stdout) as {
      attempts: Record<string, unknown>[];
      inspections: Record<string, unknown>[];
      declared: Record<string, unknown>[];
    };
    expect(report).toMatchObject({ node: 'node-1', passed: true, blind: false, unexplained: [] });
    expect(report.attempts.length).toBeGreaterThan(100);
    for (const attempt of report.attempts) {
      expect(attempt).toMatchObject({ refused: true, fault: '' });
      expect(attempt['reported']).toBe(attempt['refused_outside'] === false);
      // Only where these tests themselves run in a container may something be refused before it is seen.
      if (!FILTERED) expect(attempt['refused_outside']).toBe(false);
      expect(attempt['name']).toMatch(/^[a-z]+-/);
    }
    expect(report.inspections.every(({ ok }) => ok)).toBe(true);
    expect(report.declared.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['timing', 'kernel', 'answer']),
    );
    await place.expectNothingLeft();
  },
);

it.runIf(process.platform === 'linux')(
  "tells apart what a container's filter refuses before anything can report it",
  { timeout: TIMEOUT_MS },
  async () => {
    const filter = path.join(REPOSITORY, 'packages/containment/test/hostile/container-filter.ts');
    const ended = await minikeep(['canary', '--json'], {
      by: [process.execPath, filter],
      env: place.env,
      timeoutMs: TIMEOUT_MS,
      onStart: (child) => place.watch(child),
    });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const report = JSON.parse(ended.stdout) as {
      attempts: Record<'name' | 'refused' | 'reported' | 'refused_outside', unknown>[];
    };
    expect(report).toMatchObject({ passed: true, blind: false });
    const outside = report.attempts.filter((attempt) => attempt.refused_outside);
    expect(outside.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['kernel-bpf', 'kernel-mounts', 'ipc-keys', 'kernel-other-calls']),
    );
    for (const { refused, reported, refused_outside } of report.attempts)
      expect([refused, reported !== refused_outside]).toEqual([true, true]);
    expect(report.attempts.length - outside.length).toBeGreaterThan(140);
    await place.expectNothingLeft();
  },
);

describe('a report', () => {
  const attempt = { name: 'network-tcp', title: 'TCP', refused: true, reported: true, fault: '' };
  const report = CanaryReport.fromPartial({
    platform: 'linux',
    mechanism: 'seccomp',
    attempts: [
      attempt,
      { ...attempt, name: 'network-udp', title: 'UDP', refused: false, fault: 'it left' },
      { ...attempt, name: 'names-dns', title: 'DNS', reported: false },
    ].map((a) => ({ ...a, detail: a.fault })),
    inspections: [{ name: 'core', title: 'no core file', ok: false, finding: 'one was written' }],
    declared: [
      { name: 'timing', what: 'side channels', why: 'no system call shows them '.repeat(40) },
    ],
    unexplained: ['read openat /etc/passwd'],
  });

  it('names each attempt that did not hold', () => {
    const lines = groupsOf(report.attempts).flatMap((group) =>
      groupLines(group, { columns: 80, all: false }),
    );
    expect(lines).toContain('  ✗ network     1 of 2 refused and reported');
    expect(lines).toContain('      ✗ GOT OUT UDP: it left');
    expect(lines).toContain('      ✗ NOT SEEN DNS');
    expect(verdict(report)).toContain('DOES NOT HOLD: 2 of 3');
    expect(verdict({ ...report, blind: true })).toContain('BLIND');
    expect(verdict({ ...report, passed: true })).toContain('The sandbox holds: 1 of 3');
  });

  it('counts what was refused outside as neither reported nor unseen', () => {
    const refusedOutside = { ...attempt, name: 'network-vsock', title: 'vsock', reported: false };
    const held = CanaryReport.fromPartial({
      passed: true,
      attempts: [attempt, { ...refusedOutside, refusedOutside: true, detail: 'socket errno 1' }],
    });
    const [group] = groupsOf(held.attempts);
    const lines = group === undefined ? [] : groupLines(group, { columns: 80, all: true });
    expect(lines).toEqual([
      '  ✓ network     1 of 2 refused and reported, 1 refused outside',
      '      ✓ TCP',
      '      ✓ refused outside, not reported: vsock: socket errno 1',
    ]);
    expect(verdict(held)).toContain(
      '1 of 2 attempts were refused and reported, and 1 were refused',
    );
  });

  it('says what it does not show, in lines that fit', () => {
    const lines = beyondLines(report, 60);
    expect(lines).toContain('  ✗ no core file: one was written');
    expect(lines).toContain('  ! read openat /etc/passwd');
    expect(lines.join('\n')).toContain('  - side channels: no system call');
    expect(lines.filter((line) => line.startsWith('  - ') || line.startsWith('    ')).length).toBe(
      4,
    );
    for (const line of lines.slice(1)) expect(line.length).toBeLessThanOrEqual(80);
    expect(beyondLines(CanaryReport.fromPartial({}), 60)).toEqual([]);
  });
});
