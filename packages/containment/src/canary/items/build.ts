/** Short forms for the rows of the checklist. */
import type { ViolationKind } from '../../sandbox.ts';
import type {
  Arg,
  CanaryGroup,
  CanaryItem,
  CanaryPhase,
  CanaryPlatform,
  Step,
  Way,
} from '../types.ts';

export const SEALED: readonly CanaryPhase[] = ['sealed'];
export const START: readonly CanaryPhase[] = ['start'];
export const BOTH: readonly CanaryPhase[] = ['start', 'sealed'];

export type Kinds = ViolationKind | readonly ViolationKind[];

const listed = <T extends string>(value: T | readonly T[]): readonly T[] =>
  typeof value === 'string' ? [value] : value;

/** One call that must be refused, and reported under its own name. */
export function way(kinds: Kinds, call: string, args: readonly Arg[] = [], target?: string): Way {
  return chain(kinds, call, [{ call, args }], target);
}

/** Several calls, of which the last is the attempt; reported under one of `operations`. */
export function chain(
  kinds: Kinds,
  operations: string | readonly string[],
  steps: readonly Step[],
  target?: string,
): Way {
  const report = { kinds: listed(kinds), operations: listed(operations) };
  return { steps, report: target === undefined ? report : { ...report, target } };
}

/** A step that only makes an attempt possible. */
export const prepare = (call: string, args: readonly Arg[], keep?: string): Step =>
  keep === undefined ? { call, args, prepare: true } : { call, args, prepare: true, keep };

export interface Row {
  readonly id: string;
  readonly title: string;
  /** What it aims at, for people. */
  readonly target: string;
  readonly ways: readonly Way[];
  readonly phases?: readonly CanaryPhase[];
  readonly own?: NonNullable<CanaryItem['own']>;
  readonly unreportable?: string;
}

/** Items of one group; the id's prefix is added here. */
export function group(
  name: CanaryGroup,
  platform: CanaryPlatform,
  phases: readonly CanaryPhase[],
  rows: readonly Row[],
): CanaryItem[] {
  return rows.map((row) => ({
    phases,
    ...row,
    id: `${name}-${row.id}`,
    group: name,
    platforms: [platform],
  }));
}
