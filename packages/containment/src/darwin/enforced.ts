/**
 * Whether macOS says of a running engine that it is in a sandbox. The function has no header of Apple's; what is known
 * of it is that it answers 1 for a process in a sandbox when no operation is named. Never run on a Mac: an answer that is
 * none counts as not known, never as yes.
 */
import koffi from 'koffi';
import type { Enforced } from '../sandbox.ts';

type Check = (pid: number, operation: null, filter: number) => number;

let loaded: Check | undefined;

function load(): Check {
  loaded ??= koffi
    .load('/usr/lib/libSystem.B.dylib')
    .func('int sandbox_check(int pid, const char *operation, int filter)') as unknown as Check;
  return loaded;
}

export function enforcedOn(pid: number, check: () => Check = load): Enforced {
  let answer: number;
  try {
    answer = check()(pid, null, 0);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { state: 'unknown', finding: `macOS could not be asked: ${why.slice(0, 200)}` };
  }
  if (answer === 1) return { state: 'yes', finding: 'in a sandbox' };
  if (answer === 0) return { state: 'no', finding: 'macOS says that it is in no sandbox' };
  return { state: 'unknown', finding: `macOS answered ${answer}` };
}
