/**
 * Judges one item: what the canary observed against what the sandbox reported. Pure. The canary's word counts only
 * where it says that it was NOT refused; that an attempt was seen, only the sandbox can say.
 */
import type { SandboxExit, Violation } from '../sandbox.ts';
import { escapeText } from '../warden/escape.ts';
import { type Facts, fill } from './facts.ts';
import { OuterFilter } from './outside.ts';
import type { CanaryItem, Expectation } from './types.ts';
import type { WayOutcome } from './wire.ts';

/** Longest text of one attempt in the report. */
const TEXT_CHARACTERS_MAX = 2000;
const WAYS_SHOWN_MAX = 12;
/** SandboxExit and Violation promise escaped ASCII of at most this many characters. */
const REPORT_CHARACTERS_MAX = 300;
const ESCAPED = /^[\x20-\x7e]*$/;

export interface Evidence {
  /** Absent when the canary did not come to the item's end. */
  readonly ways?: readonly WayOutcome[];
  /** Reported by this item's own sandbox between its begin and its end. */
  readonly violations: readonly Violation[];
  /** Present when the process ended in the attempt or after it. */
  readonly exit?: SandboxExit;
  /** The runner lost patience. */
  readonly timed_out?: boolean;
}

export interface Verdict {
  readonly refused: boolean;
  readonly reported: boolean;
  readonly refused_outside: boolean;
  readonly reported_as: string;
  readonly observed: string;
  readonly fault: string;
}

/** A report ends so when its text was longer than a report may be. */
const CUT_OFF = /^(.{200,})\.\.\.\+\d+$/;

/** As reports write them: a home folder may have any name. */
const escaped = (facts: Facts): Facts =>
  Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      name,
      typeof value === 'string' ? escapeText(value, Number.POSITIVE_INFINITY) : value,
    ]),
  );

/** Reports are bounded, and a home folder may lie deep. */
function names(target: string, expected: string): boolean {
  const head = CUT_OFF.exec(target)?.[1];
  return target.includes(expected) || (head !== undefined && expected.startsWith(head));
}

export function fits(expected: Expectation, violation: Violation, facts: Facts): boolean {
  return (
    (expected.kinds.length === 0 || expected.kinds.includes(violation.kind)) &&
    (expected.operations.length === 0 || expected.operations.includes(violation.operation)) &&
    (expected.target === undefined ||
      names(violation.target, fill(expected.target, escaped(facts))))
  );
}

/** The violation that answers each way, in order: ways are tried one after the other, and reports keep that order. */
export function answers(
  item: CanaryItem,
  violations: readonly Violation[],
  facts: Facts,
): (Violation | undefined)[] {
  let from = 0;
  return item.ways.map(({ report }) => {
    const at = violations.findIndex((v, i) => i >= from && fits(report, v, facts));
    if (at < 0) return undefined;
    from = at + 1;
    return violations[at];
  });
}

export const isReported = (
  item: CanaryItem,
  violations: readonly Violation[],
  facts: Facts,
): boolean => answers(item, violations, facts).every((answer) => answer !== undefined);

export const violationText = (v: Violation): string =>
  `${v.kind} ${v.operation} ${v.target}`.trim() + (v.count > 1 ? ` (${v.count} times)` : '');

export function judge(
  item: CanaryItem,
  evidence: Evidence,
  facts: Facts,
  outer: OuterFilter = OuterFilter.NONE,
): Verdict {
  const answered = answers(item, evidence.violations, facts).map(
    (answer, i) => answer ?? outsideOf(item, evidence, i, outer),
  );
  const outside = answered.filter((answer) => typeof answer === 'string');
  const refusal = refusalFault(item, evidence);
  const silent =
    item.unreportable === undefined ? reportFault(item, answered, evidence, facts) : '';
  return {
    refused: refusal === '',
    reported: silent === '' && outside.length === 0,
    refused_outside: silent === '' && outside.length > 0,
    reported_as: listed(
      answered.flatMap((a) => {
        if (a === undefined) return [];
        return typeof a === 'string' ? [`not reported, refused outside: ${a}`] : [violationText(a)];
      }),
    ),
    observed: observedText(evidence),
    fault: [refusal, silent].filter((fault) => fault !== '').join('; '),
  };
}

/** What a way came to: its report, or the call that was refused before the sandbox saw it. */
type Answer = Violation | string | undefined;

function outsideOf(
  item: CanaryItem,
  { ways }: Evidence,
  index: number,
  outer: OuterFilter,
): string | undefined {
  const way = item.ways[index];
  const outcome = ways?.[index];
  return way !== undefined && outer.refuses(way, outcome) ? lastStep(outcome) : undefined;
}

function refusalFault(item: CanaryItem, { ways, exit, timed_out }: Evidence): string {
  if (timed_out === true) return 'the attempt did not end in time';
  const ends = item.own?.ends;
  if (ends !== undefined) {
    const how = exit === undefined ? 'went on' : `ended with ${exit.signal ?? `code ${exit.code}`}`;
    if (exit === undefined || ways !== undefined)
      return `the process ${how} as if nothing had happened`;
    const asExpected =
      (ends.stopped === true && exit.reason !== '') ||
      (exit.signal !== null && ends.signals?.includes(exit.signal)) ||
      (exit.code !== null && ends.codes?.includes(exit.code));
    return asExpected === true ? '' : `the process ${how}`;
  }
  if (ways === undefined)
    return `the process ended in the attempt (${exit?.signal ?? `code ${exit?.code ?? 'unknown'}`})`;
  if (ways.length !== item.ways.length)
    return `${ways.length} of ${item.ways.length} ways were tried`;
  const unprepared = ways.findIndex((way) => way.outcome === 'unprepared');
  if (unprepared >= 0)
    return `way ${unprepared + 1} could not be tried: ${lastStep(ways[unprepared])}`;
  const done = ways.findIndex((way) => way.outcome === 'done');
  return done < 0 ? '' : `way ${done + 1} was NOT refused: ${lastStep(ways[done])}`;
}

function reportFault(
  item: CanaryItem,
  answered: readonly Answer[],
  { violations, exit }: Evidence,
  facts: Facts,
): string {
  const unescaped = violations.find(
    (v) =>
      ![v.target, v.operation].every((t) => ESCAPED.test(t) && t.length <= REPORT_CHARACTERS_MAX),
  );
  if (unescaped !== undefined)
    return `the report of ${JSON.stringify(unescaped.operation)} is not escaped`;
  const missing = answered.flatMap((v, i) => (v === undefined ? [i] : []));
  if (missing.length > 0) {
    const { kinds, operations, target } = item.ways[missing[0] ?? 0]?.report ?? {
      kinds: [],
      operations: [],
    };
    const what = [
      kinds.join('|'),
      operations.join('|'),
      target === undefined ? '' : fill(target, facts),
    ];
    const seen = violations.slice(0, WAYS_SHOWN_MAX).map(violationText).join(' · ');
    return `way ${(missing[0] ?? 0) + 1} was not reported (expected ${what.join(' ').trim()}; seen: ${seen || 'nothing'})`.slice(
      0,
      TEXT_CHARACTERS_MAX,
    );
  }
  const counted = item.own?.counted;
  if (counted !== undefined && (exit?.violations ?? 0) < counted)
    return `${exit?.violations ?? 0} attempts were counted, ${counted} were made`;
  return '';
}

function lastStep(way: WayOutcome | undefined): string {
  const step = way?.steps.at(-1);
  if (step === undefined) return 'nothing';
  const note = step.note === '' ? '' : `, ${step.note}`;
  return step.refused
    ? `${step.call} errno ${step.errno}${note}`
    : `${step.call} = ${step.result}${note}`;
}

function observedText({ ways, exit }: Evidence): string {
  const parts = (ways ?? []).map(lastStep);
  if (exit !== undefined && ways === undefined)
    parts.push(`process ended: ${exit.signal ?? `code ${exit.code}`}`);
  return listed(parts);
}

function listed(all: readonly string[]): string {
  const parts = [...new Set(all)];
  const shown = parts.slice(0, WAYS_SHOWN_MAX);
  const rest = parts.length - shown.length;
  return `${shown.join(' · ')}${rest > 0 ? ` · and ${rest} more` : ''}`.slice(
    0,
    TEXT_CHARACTERS_MAX,
  );
}
