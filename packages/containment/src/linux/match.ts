/** Evaluates rules on a notification's registers, as the kernel evaluates the same rules in the filter. */
import { type Alternative, type Check, type ContinueRule, PHASES, type Phase } from './rules.ts';

/** What the warden knows of the engine, for the checks that a filter can't do. */
export interface EngineIdentity {
  readonly pid: number;
  ownsThread(tid: number): boolean;
}

const low = (value: bigint): number => Number(value & 0xffff_ffffn);

export function holds(check: Check, args: readonly bigint[], engine: EngineIdentity): boolean {
  const argument = args[check.arg] ?? 0n;
  const value = low(argument);
  switch (check.op) {
    case 'eq':
      return value === check.value >>> 0;
    case 'clear':
      return (value & check.value) === 0;
    case 'any':
      return (value & check.value) !== 0;
    case 'masked':
      return (value & check.mask) >>> 0 === check.value;
    case 'null':
      return argument === 0n;
    case 'self':
      return value === 0 || value === engine.pid;
    case 'own_thread':
      return value === 0 || engine.ownsThread(value);
  }
}

export const matches = (
  all: Alternative,
  args: readonly bigint[],
  engine: EngineIdentity,
): boolean => all.every((check) => holds(check, args, engine));

export type ContinueTable = ReadonlyMap<string, readonly ContinueRule[]>;

export function continueTable(rules: readonly ContinueRule[]): ContinueTable {
  const table = new Map<string, ContinueRule[]>();
  for (const rule of rules) table.set(rule.call, [...(table.get(rule.call) ?? []), rule]);
  return table;
}

/** Whether a call may go on in this phase, judged by its registers alone. */
export function mayContinue(
  table: ContinueTable,
  call: string,
  args: readonly bigint[],
  phase: Phase,
  engine: EngineIdentity,
): boolean {
  const now = PHASES.indexOf(phase);
  return (table.get(call) ?? []).some(
    (rule) =>
      now <= PHASES.indexOf(rule.until) &&
      rule.alternatives.some((all) => matches(all, args, engine)),
  );
}
