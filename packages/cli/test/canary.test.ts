/** `minikeep canary` as a user types it, and what its report says when something is wrong. */
import { CanaryReport } from '@minikeep/protocol/v1';
import { afterAll, describe, expect, it } from 'vitest';
import { beyondLines, groupLines, groupsOf } from '../src/canary-groups.ts';
import { verdict } from '../src/commands/canary.ts';
import { minikeep } from './minikeep.ts';
import { Place } from './nothing-left.ts';

const TIMEOUT_MS = 240_000;
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
      expect(attempt).toMatchObject({ refused: true, reported: true, fault: '' });
      expect(attempt['name']).toMatch(/^[a-z]+-/);
    }
    expect(report.inspections.every(({ ok }) => ok)).toBe(true);
    expect(report.declared.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['timing', 'kernel', 'answer']),
    );
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
