/**
 * What the canary's checklist and its report are made of. The checklist is data: the canary itself knows no item, it
 * only carries out the steps that it is given, so that a new way out is a new row and never new code inside.
 */
import type { SandboxLimits, ViolationKind } from '../sandbox.ts';

export type CanaryPlatform = 'linux' | 'darwin';

/** `start`: the engine is still loading. `sealed`: it computes. */
export type CanaryPhase = 'start' | 'sealed';

export type CanaryGroup =
  | 'network'
  | 'names'
  | 'sockets'
  | 'programs'
  | 'processes'
  | 'limits'
  | 'kernel'
  | 'ipc'
  | 'writing'
  | 'reading'
  | 'memory'
  | 'monitor'
  | 'crash';

/** A socket address, written as one would say it. */
export type Address =
  | { readonly family: 'inet'; readonly host: string; readonly port: number | string }
  | {
      readonly family: 'inet6';
      readonly host: string;
      readonly port: number | string;
      readonly scope?: number;
    }
  | { readonly family: 'unix'; readonly path: string }
  /** Linux only: a name that is no file. */
  | { readonly family: 'abstract'; readonly name: string }
  | { readonly family: 'vsock'; readonly cid: number; readonly port: number };

/**
 * One argument of a call. Text may hold `{name}`, replaced by one of the run's facts (a path, a process id, a port).
 * - number: as it is; `$name`: a fact that is a number, or the result of an earlier step kept under that name
 * - text: pointer to NUL-terminated bytes; bytes: pointer to that many zero bytes
 * - words: pointer to 64-bit words (a structure); ints: pointer to 32-bit words
 * - sockaddr: TWO arguments (or words), the pointer and the length
 */
export type Arg =
  | number
  | `$${string}`
  | { readonly text: string }
  | { readonly bytes: number }
  | { readonly hex: string }
  | { readonly words: readonly Arg[] }
  | { readonly ints: readonly (number | `$${string}`)[] }
  | { readonly sockaddr: Address };

/** One call. `call` is a system call of Linux, a libc function of macOS, or a `verb:` (verbs.ts). */
export interface Step {
  readonly call: string;
  readonly args?: readonly Arg[];
  /** Keeps the result for later steps of the same way. */
  readonly keep?: string;
  /** Not an attempt but what an attempt needs: when it fails, the item could not be tried and does not pass. */
  readonly prepare?: boolean;
}

/** What must be in the sandbox's report for one way to count as seen. */
export interface Expectation {
  readonly kinds: readonly ViolationKind[];
  /** Operations as the sandbox names them: system calls, or Seatbelt's names. */
  readonly operations: readonly string[];
  /** A part of the target, so that the report says where to. Empty: the call has nothing to name. */
  readonly target?: string;
}

/** One chain of calls; it is refused when it breaks off before its end. */
export interface Way {
  readonly steps: readonly Step[];
  readonly report: Expectation;
}

export interface CanaryItem {
  /** Stable name, `group-what`. */
  readonly id: string;
  readonly group: CanaryGroup;
  readonly title: string;
  readonly platforms: readonly CanaryPlatform[];
  readonly phases: readonly CanaryPhase[];
  /** What it wants to reach, for people; may hold `{facts}`. */
  readonly target: string;
  /** Tried one after the other; each must be refused and reported. */
  readonly ways: readonly Way[];
  /** A sandbox of its own: the item ends the process, or would blur what others see. */
  readonly own?: {
    readonly limits?: Partial<SandboxLimits>;
    /** The process must end in the attempt, by one of these signals or exit codes, or because the sandbox stopped it. */
    readonly ends?: {
      readonly signals?: readonly string[];
      readonly codes?: readonly number[];
      readonly stopped?: boolean;
    };
    /** Attempts that the exit must have counted at least, however few were reported one by one. */
    readonly counted?: number;
  };
  /** Why a refusal can't be reported. Such an item is an inspection: it must hold, and nobody claims that it was seen. */
  readonly unreportable?: string;
}

/** One item tried in one phase. */
export interface CanaryAttempt {
  readonly name: string;
  readonly group: CanaryGroup;
  readonly title: string;
  readonly phase: CanaryPhase;
  readonly target: string;
  readonly refused: boolean;
  readonly reported: boolean;
  /** What was not reported was refused by a filter around minikeep, which answers before the sandbox's own is asked. */
  readonly refused_outside: boolean;
  /** The sandbox's own words: `kind operation target`, one for each way, joined by ` · `. Escaped ASCII. */
  readonly reported_as: string;
  /** What the canary observed: call and errno of the step at which each way broke off. */
  readonly observed: string;
  /** More than 1 only where a lossy monitor made it necessary to try again. */
  readonly tries: number;
  /** Why it did not pass; empty when it did. */
  readonly fault: string;
}

/** Something that can be looked at but not reported, since nothing is asked of the system: no descriptor, no core file. */
export interface CanaryInspection {
  readonly name: string;
  readonly title: string;
  readonly ok: boolean;
  readonly finding: string;
}

/** What no test from inside can show; part of every report, so that a pass is not read as more than it is. */
export interface Declared {
  readonly name: string;
  readonly what: string;
  readonly why: string;
}

/**
 * `passed`: each refused and reported, or refused before the sandbox could see it. `blind`: all refused, but the monitor missed some. `failed`: something was not
 * refused, could not be tried, or was found by inspection.
 */
export type CanaryState = 'passed' | 'blind' | 'failed';

export interface CanaryReport {
  readonly ok: boolean;
  readonly state: CanaryState;
  readonly platform: CanaryPlatform;
  readonly mechanism: string;
  readonly started_at_seconds: number;
  readonly duration_seconds: number;
  /** Sandbox instances used: by these the canary's violations are told from an engine's. */
  readonly instances: readonly string[];
  readonly attempts: readonly CanaryAttempt[];
  readonly inspections: readonly CanaryInspection[];
  readonly declared: readonly Declared[];
  /** Violations that no attempt explains, `kind operation target`. */
  readonly unexplained: readonly string[];
}
