/**
 * The canary's macOS items as data, and the rule for a monitor that loses reports. Refusals are recorded lines of the
 * design notes, read by the log reader; nothing here ran on a Mac.
 */
import { describe, expect, it } from 'vitest';
import { checklistFor } from '../src/canary/checklist.ts';
import { inspectMacProcess, macParentOf } from '../src/canary/darwin-inspect.ts';
import { fill } from '../src/canary/facts.ts';
import { LossyTries, UNSEEN_ITEMS_MAX } from '../src/canary/lossy.ts';
import { isReported, judge } from '../src/canary/match.ts';
import { Plant } from '../src/canary/plant.ts';
import type { Arg, CanaryItem } from '../src/canary/types.ts';
import { VERBS } from '../src/canary/verbs.ts';
import { readLogLine } from '../src/darwin/log-reader.ts';
import type { Violation } from '../src/sandbox.ts';
import { logEvent } from './darwin/stand-ins.ts';

const TAG = 'mk-0123456789abcdef';
const ITEMS = checklistFor('darwin');
const item = (id: string): CanaryItem => {
  const found = ITEMS.find((i) => i.id === id);
  if (found === undefined) throw new Error(`no item ${id}`);
  return found;
};
const FACTS = { tcp_port: 5000, udp_port: 5001, user_file: '/private/u', node_key: '/private/k' };

/** What the warden makes of a recorded line. */
function violation(message: string): Violation {
  const finding = readLogLine(logEvent(message, TAG), TAG);
  if (finding?.type !== 'refusal') throw new Error(`not a refusal: ${message}`);
  const { kind, operation, target, count } = finding;
  return {
    sequence: 1,
    instance: 'i',
    purpose: 'canary',
    at_seconds: 0,
    kind,
    operation,
    target,
    refused_by: 'seatbelt',
    seen_by: ['seatbelt-log'],
    count,
    stopped: false,
  };
}

describe('checklist of macOS', () => {
  it('covers every group that the design lists, each item once', () => {
    expect(new Set(ITEMS.map((i) => i.id)).size).toBe(ITEMS.length);
    expect(ITEMS.length).toBeGreaterThan(45);
    for (const group of [
      'network',
      'names',
      'sockets',
      'programs',
      'processes',
      'ipc',
      'kernel',
      'reading',
      'writing',
      'memory',
      'limits',
      'crash',
    ])
      expect(
        ITEMS.some((i) => i.group === group),
        group,
      ).toBe(true);
  });

  it('names only facts that are laid out, and verbs that exist', async () => {
    const plant = await Plant.lay({ platform: 'darwin' });
    const facts: Record<string, string | number> = { ...plant.facts, self: 1, warden: 2 };
    await plant.clear();
    const visit = (arg: Arg, kept: ReadonlySet<string>): void => {
      if (typeof arg === 'string') {
        expect(kept.has(arg.slice(1)) || typeof facts[arg.slice(1)] === 'number', arg).toBe(true);
      } else if (typeof arg === 'object' && 'text' in arg) fill(arg.text, facts);
      else if (typeof arg === 'object' && 'words' in arg) for (const w of arg.words) visit(w, kept);
    };
    for (const { ways, target } of ITEMS) {
      fill(target, facts);
      for (const { steps, report } of ways) {
        const kept = new Set<string>();
        if (report.target !== undefined) fill(report.target, facts);
        for (const step of steps) {
          for (const arg of step.args ?? []) visit(arg, kept);
          if (step.keep !== undefined) kept.add(step.keep);
          const verb = /^verb:(.*)$/.exec(step.call)?.[1];
          if (verb !== undefined) expect(VERBS[verb], verb).toBeDefined();
        }
      }
    }
  });

  it.each([
    ['network-tcp-v4', 'Sandbox: node(9) deny(1) network-outbound remote:*:443', true],
    ['network-tcp-v4', 'Sandbox: node(9) deny(1) network-outbound remote:*:80', false],
    ['network-listen', 'Sandbox: node(9) deny(1) network-bind local:*:18080', true],
    [
      'names-getaddrinfo',
      'Sandbox: node(9) deny(1) network-outbound /private/var/run/mDNSResponder',
      true,
    ],
    ['programs-shell', 'Sandbox: node(9) deny(1) process-exec* /bin/sh', true],
    ['programs-shell', 'Sandbox: node(9) deny(1) process-exec* /bin/ls', false],
    ['reading-node-key', 'Sandbox: node(9) deny(1) file-read-data /private/k', true],
    ['reading-node-key', 'Sandbox: node(9) deny(1) file-read-data /private/other', false],
    ['ipc-mach-pasteboard', 'Sandbox: node(9) deny(1) mach-lookup com.apple.pasteboard.1', true],
  ])('%s is answered by "%s": %s', (id, line, answered) => {
    expect(isReported(item(id), [violation(line)], FACTS)).toBe(answered);
  });
});

describe('a monitor that loses reports', () => {
  const shell = item('programs-shell');
  const LINE = 'Sandbox: node(9) deny(1) process-exec* /bin/sh';
  const refused = {
    outcome: 'refused',
    steps: [{ step: 0, call: 'execve', result: '-1', errno: 1, refused: true, note: '' }],
  } as const;
  const done = {
    outcome: 'done',
    steps: [{ step: 0, call: 'execve', result: '0', errno: 0, refused: false, note: '' }],
  } as const;
  const world = () => {
    const pauses: number[] = [];
    const tries = new LossyTries((ms) => {
      pauses.push(ms);
      return Promise.resolve();
    });
    return { pauses, tries };
  };
  /** The report comes at try number `at`; never at 0. */
  const attempts = (at: number, way: typeof refused | typeof done = refused) => {
    let n = 0;
    return () => {
      n += 1;
      const violations = n === at ? [violation(LINE)] : [];
      return Promise.resolve(judge(shell, { ways: [way], violations }, FACTS));
    };
  };

  it('is asked once when it saw', async () => {
    const { pauses, tries } = world();
    const { outcome, tries: n } = await tries.run(attempts(1), () => false);
    expect([outcome.reported, n, pauses]).toEqual([true, 1, []]);
  });

  it('is asked up to five times, with growing pauses', async () => {
    const { pauses, tries } = world();
    const { outcome, tries: n } = await tries.run(attempts(5), () => false);
    expect([outcome.reported, n]).toEqual([true, 5]);
    expect(pauses).toEqual([300, 600, 900, 1200]);
  });

  it('has not seen when the fifth try was not seen, though the sixth would be', async () => {
    const { tries } = world();
    const { outcome, tries: n } = await tries.run(attempts(6), () => false);
    expect([outcome.refused, outcome.reported, n]).toEqual([true, false, 5]);
  });

  it('what was not refused is never tried again', async () => {
    const { tries, pauses } = world();
    const { outcome, tries: n } = await tries.run(attempts(2, done), () => false);
    expect([outcome.refused, n, pauses]).toEqual([false, 1, []]);
  });

  it('nothing is tried in a process that has ended', async () => {
    const { tries } = world();
    expect((await tries.run(attempts(2), () => true)).tries).toBe(1);
  });

  it('a log that is dead costs no further tries', async () => {
    const { tries } = world();
    for (let i = 0; i < UNSEEN_ITEMS_MAX; i += 1)
      expect((await tries.run(attempts(0), () => false)).tries).toBe(5);
    expect((await tries.run(attempts(0), () => false)).tries).toBe(1);
  });
});

describe('what ps says', () => {
  // `ps -o uid=,tty=,pgid=` and `ps -o ppid=` of macOS pad with blanks and write `??` for no terminal.
  it('is read', () => {
    expect(inspectMacProcess(77, () => '  501 ??          77\n').map((i) => i.ok)).toEqual([
      true,
      true,
    ]);
    expect(macParentOf(77, () => '  4242\n')).toBe(4242);
  });
  it('and a process that is root, has a terminal, or is gone, does not pass', () => {
    const oks = (text: string) => inspectMacProcess(77, () => text).map((i) => i.ok);
    expect(oks('0 ?? 77')).toEqual([false, true]);
    expect(oks('501 ttys001 77')).toEqual([true, false]);
    expect(oks('501 ?? 4')).toEqual([true, false]);
    expect(oks('')).toEqual([false, false]);
    expect(macParentOf(77, () => '')).toBeUndefined();
  });
});
