/** What a filter around minikeep refuses is told apart from what the sandbox refuses and fails to report. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { describe, expect, it } from 'vitest';
import { checklistFor } from '../src/canary/checklist.ts';
import { judge } from '../src/canary/match.ts';
import { harmlessStep, isFiltered, OuterFilter } from '../src/canary/outside.ts';
import type { CanaryItem } from '../src/canary/types.ts';
import type { CanaryReport } from '../src/index.ts';

const TIME_MS = 120_000;
const linux = process.platform === 'linux' && process.arch === 'x64';
const HOSTILE = path.join(REPOSITORY, 'packages/containment/test/hostile');
const FILTER = path.join(HOSTILE, 'container-filter.ts');

/** The kernel answers such a pointer with EFAULT, and nobody has such a number. */
const HARMLESS_POINTER = 1;
const NOBODY = 0x7fff_fff0;

describe('a call tried outside', () => {
  const steps = checklistFor('linux').flatMap((item) => item.ways.flatMap((way) => way.steps));

  it('gets no pointer to anything and nobody’s number', () => {
    const tried = steps.flatMap((step) => {
      const harmless = harmlessStep(step);
      return harmless === undefined ? [] : [{ step, args: harmless.args ?? [] }];
    });
    expect(tried.length).toBeGreaterThan(80);
    for (const { step, args } of tried)
      for (const [i, arg] of (step.args ?? []).entries())
        if (typeof arg !== 'number')
          expect([HARMLESS_POINTER, NOBODY]).toContain(args[i] as number);
  });

  it('is none that would do something', () => {
    const tried = new Set(steps.flatMap((step) => harmlessStep(step)?.call ?? []));
    for (const call of [
      'kill',
      'tgkill',
      'openat',
      'connect',
      'execve',
      'fork',
      'shmget',
      'unlink',
    ])
      expect(tried).not.toContain(call);
    expect(harmlessStep({ call: 'reboot' })).toBeDefined();
    expect(harmlessStep({ call: 'reboot', args: [1, 2, 3] })).toBeUndefined();
  });
});

describe('an attempt that nobody reported', () => {
  const item: CanaryItem = {
    id: 'kernel-bpf',
    group: 'kernel',
    title: 'bpf',
    platforms: ['linux'],
    phases: ['sealed'],
    target: 'bpf',
    ways: [
      {
        steps: [{ call: 'bpf', args: [0, { bytes: 8 }, 48] }],
        report: { kinds: ['other'], operations: ['bpf'] },
      },
    ],
  };
  const evidence = (errno: number, refused = true) => ({
    violations: [],
    ways: [
      {
        outcome: refused ? ('refused' as const) : ('done' as const),
        steps: [{ step: 0, call: 'bpf', result: refused ? '-1' : '3', errno, refused, note: '' }],
      },
    ],
  });
  const step = harmlessStep(item.ways[0]?.steps[0] ?? { call: '' }) ?? { call: '' };
  const outer = new OuterFilter([[step, 1]]);

  it('is unseen, unless the same call is refused outside with the same errno', () => {
    expect(judge(item, evidence(1), {}, outer)).toMatchObject({
      refused: true,
      reported: false,
      refused_outside: true,
      fault: '',
      reported_as: 'not reported, refused outside: bpf errno 1',
    });
    const unseen = { refused: true, reported: false, refused_outside: false };
    expect(judge(item, evidence(1), {})).toMatchObject(unseen);
    expect(judge(item, evidence(13), {}, outer)).toMatchObject(unseen);
    expect(judge(item, evidence(13), {}, outer).fault).toContain('way 1 was not reported');
  });

  it('got out when it was not refused, whatever is refused outside', () => {
    const verdict = judge(item, evidence(0, false), {}, outer);
    expect(verdict).toMatchObject({ refused: false, refused_outside: false });
    expect(verdict.fault).toContain('NOT refused');
  });
});

it('knows a filter around it by the kernel’s word', () => {
  expect(isFiltered('Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n')).toBe(true);
  expect(isFiltered('Name:\tSeccomp:\t2\nSeccomp:\t0\n')).toBe(false);
  expect(isFiltered('Name:\tx\n')).toBe(false);
});

describe.runIf(linux)('behind a container’s filter', () => {
  it(
    'a monitor that says nothing is blind for all that the filter lets through',
    () => {
      const items = ['programs-shell', 'kernel-bpf', 'network-tcp-v4'];
      const { stdout, stderr } = spawnSync(
        process.execPath,
        [FILTER, process.execPath, path.join(HOSTILE, 'mute-canary.ts'), ...items],
        { encoding: 'utf8', timeout: TIME_MS },
      );
      expect(stderr).toBe('');
      const report = JSON.parse(stdout) as CanaryReport;
      expect(report.state).toBe('blind');
      const seen = report.attempts
        .map((a) => [a.name, a.refused, a.reported, a.refused_outside] as const)
        .toSorted(([a], [b]) => a.localeCompare(b));
      expect(seen).toEqual([
        ['kernel-bpf', true, false, true],
        ['network-tcp-v4', true, false, false],
        ['network-tcp-v4-start', true, false, false],
        ['programs-shell', true, false, false],
        ['programs-shell-start', true, false, false],
      ]);
    },
    TIME_MS,
  );
});
