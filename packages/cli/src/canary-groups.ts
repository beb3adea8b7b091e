/** A canary's attempts, grouped as a person reads them: one line a group while all is well, each failure by name. */
import type { CanaryAttempt } from '@minikeep/protocol/v1';

export type Outcome = 'held' | 'got_out' | 'unseen' | 'skipped';

/** Refused and reported, got out, refused but not seen, or no such way out on this platform. */
export function outcomeOf(attempt: CanaryAttempt): Outcome {
  if (attempt.skipped) return 'skipped';
  if (!attempt.refused) return 'got_out';
  return attempt.reported ? 'held' : 'unseen';
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

const MARKS: Readonly<Record<Outcome, string>> = {
  held: '✓',
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
  const bad = tried.filter((attempt) => outcomeOf(attempt) !== 'held');
  const shown = options.all ? group.attempts : bad;
  // What was tried in both phases is one way out.
  const titles = [
    ...new Set(tried.map(({ title }) => title.replace(/, while it loads$/, ''))),
  ].join(', ');
  const mark = bad.length === 0 ? '✓' : '✗';
  const head = `  ${mark} ${group.name.padEnd(10)} ${String(tried.length - bad.length).padStart(2)} of ${tried.length} refused and reported`;
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

/** At most two lines; what does not fit is left to --verbose. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
      if (lines.length === 2) break;
    }
    line += (line === '' ? '' : ' ') + word;
  }
  if (line !== '') lines.push(line);
  if (lines.length === 2 && lines.join(' ').length < text.length)
    lines[1] = `${lines[1]?.replace(/,?\s*\S*$/, '') ?? ''} …`;
  return lines;
}
