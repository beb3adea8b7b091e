/** A canary's attempts, grouped as a person reads them: one line a group while all is well, each failure by name. */
import type { CanaryAttempt, CanaryReport } from '@minikeep/protocol/v1';
import { wrapped } from './wrap.ts';

export type Outcome = 'held' | 'outside' | 'got_out' | 'unseen' | 'skipped';

/** Refused and reported, refused by a filter around minikeep, got out, refused but not seen, or no such way out here. */
export function outcomeOf(attempt: CanaryAttempt): Outcome {
  if (attempt.skipped) return 'skipped';
  if (!attempt.refused) return 'got_out';
  if (attempt.reported) return 'held';
  return attempt.refusedOutside ? 'outside' : 'unseen';
}

export interface Group {
  readonly name: string;
  readonly attempts: readonly CanaryAttempt[];
}

/** Names are `group-what`; groups keep the order in which they were tried. */
export function groupsOf(attempts: readonly CanaryAttempt[]): Group[] {
  const groups = Map.groupBy(attempts, (attempt) => attempt.name.split('-')[0] ?? attempt.name);
  return [...groups].map(([name, members]) => ({ name, attempts: members }));
}

/** A finding or a reason is a sentence or two. */
const LINES_MAX = 4;

const MARKS: Readonly<Record<Outcome, string>> = {
  held: '✓',
  outside: '✓ refused outside, not reported:',
  got_out: '✗ GOT OUT',
  unseen: '✗ NOT SEEN',
  skipped: '–',
};

export interface GroupLinesOptions {
  readonly columns: number;
  /** Every attempt on its own line. */
  readonly all: boolean;
}

/** Lines for a terminal. The attempts' titles are ours; details may come from an attacker and are made safe later. */
export function groupLines(group: Group, options: GroupLinesOptions): string[] {
  const tried = group.attempts.filter((attempt) => !attempt.skipped);
  const outside = tried.filter((attempt) => outcomeOf(attempt) === 'outside');
  const bad = tried.filter((attempt) => !['held', 'outside'].includes(outcomeOf(attempt)));
  const shown = options.all ? group.attempts : bad;
  // What was tried in both phases is one way out.
  const titles = [
    ...new Set(tried.map(({ title }) => title.replace(/, while it loads$/, ''))),
  ].join(', ');
  const mark = bad.length === 0 ? '✓' : '✗';
  const held = String(tried.length - bad.length - outside.length).padStart(2);
  const rest = outside.length === 0 ? '' : `, ${outside.length} refused outside`;
  const head = `  ${mark} ${group.name.padEnd(10)} ${held} of ${tried.length} refused and reported${rest}`;
  const lines = tried.length === 0 ? [`  – ${group.name.padEnd(10)} nothing to try here`] : [head];
  if (!options.all && tried.length > 0)
    for (const line of wrapped(titles, Math.max(30, options.columns - 6)))
      lines.push(`      ${line}`);
  for (const attempt of shown) {
    const detail = attempt.detail === '' ? '' : `: ${attempt.detail}`;
    lines.push(`      ${MARKS[outcomeOf(attempt)]} ${attempt.title}${detail}`);
  }
  return lines;
}

/** What was looked at from outside, what nobody tried, and what no attempt from inside can show. */
export function beyondLines(report: CanaryReport, columns: number): string[] {
  const { inspections, declared, unexplained } = report;
  const item = (mark: string, text: string): string[] =>
    wrapped(text, Math.max(30, columns - 6), LINES_MAX).map(
      (line, i) => `${i === 0 ? `  ${mark} ` : '    '}${line}`,
    );
  return [
    ...section(
      'Looked at from outside, not tried:',
      inspections.flatMap(({ ok, title, finding }) =>
        item(ok ? '✓' : '✗', finding === '' ? title : `${title}: ${finding}`),
      ),
    ),
    ...section(
      'Reported, and no attempt of the canary explains it:',
      unexplained.flatMap((text) => item('!', text)),
    ),
    ...section(
      'Not shown by this, because nothing inside a sandbox can show it:',
      declared.flatMap(({ what, why }) => item('-', `${what}: ${why}`)),
    ),
  ];
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : [title, ...lines, ''];
