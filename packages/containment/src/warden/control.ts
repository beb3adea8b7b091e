/**
 * What agent and warden say to each other, one JSON line each, over the warden's stdin and stdout. The warden is
 * trusted; the lines are bounded all the same.
 */
import type { RefusedOutside } from '../canary/outside.ts';
import type {
  SandboxExit,
  SandboxLimits,
  SandboxPurpose,
  SandboxSupport,
  StrikePolicy,
  Violation,
} from '../sandbox.ts';
import { CONTROL_LINE_BYTES_MAX } from './limits.ts';

export interface WardenJob {
  readonly instance: string;
  readonly purpose: SandboxPurpose;
  readonly entry: string;
  readonly args: readonly string[];
  readonly files: readonly string[];
  readonly library_dir?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly limits: SandboxLimits;
  readonly policy: StrikePolicy;
  readonly agent_pid: number;
}

export type ToWarden =
  | { readonly type: 'start'; readonly job: WardenJob }
  | { readonly type: 'probe' }
  /** What does a filter around minikeep itself refuse? (canary/outside.ts) */
  | { readonly type: 'outside' }
  | { readonly type: 'seal' }
  | { readonly type: 'kill'; readonly reason: string };

/** What a start is doing, in order; the words are shown when it hangs there. */
export const START_STEPS = {
  warden: "the warden's program starts",
  files: 'the warden checks the files that the engine may read',
  log: "the warden opens the system's log",
  launcher: "the launcher's program starts",
  rights: 'the launcher gives up its rights',
  filter: 'the launcher puts the system call filter in place',
  program: "the engine's program starts",
} as const;
export type StartStep = keyof typeof START_STEPS;

export type FromWarden =
  /** A start has come so far. `pid`: the process that is waited for from now on. */
  | { readonly type: 'step'; readonly step: StartStep; readonly pid?: number }
  | { readonly type: 'started'; readonly pid: number; readonly landlock_abi: number }
  | { readonly type: 'sealed' }
  /** Every BEAT_MS, while an engine runs. */
  | { readonly type: 'alive' }
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 'violation'; readonly violation: Violation }
  /** From now on attempts may go unseen. */
  | { readonly type: 'blind'; readonly why: string }
  | { readonly type: 'exit'; readonly exit: SandboxExit }
  | { readonly type: 'support'; readonly support: SandboxSupport }
  | { readonly type: 'outside'; readonly refused: readonly RefusedOutside[] }
  | {
      readonly type: 'failed';
      readonly code: string;
      readonly message: string;
      readonly next: string;
    };

/** Splits a byte stream into parsed lines; a line that is too long or no JSON ends it with an error. */
export function lineReader(
  onLine: (message: unknown) => void,
  onError: (error: Error) => void,
): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  let broken = false;
  return (chunk) => {
    if (broken) return;
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const line = rest.subarray(0, end);
      rest = rest.subarray(end + 1);
      let message: unknown;
      try {
        message = JSON.parse(line.toString('utf8'));
      } catch (error) {
        broken = true;
        onError(error as Error);
        return;
      }
      onLine(message);
    }
    if (rest.length > CONTROL_LINE_BYTES_MAX) {
      broken = true;
      onError(new Error('a control line is too long'));
    }
  };
}

export const line = (message: ToWarden | FromWarden): string => `${JSON.stringify(message)}\n`;
