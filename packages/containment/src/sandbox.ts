/**
 * The one interface to an engine's sandbox. The rest of minikeep does not know the platform:
 * linux/ has the warden (seccomp user notification), darwin/ has Seatbelt and its log.
 */
import type { Readable, Writable } from 'node:stream';
import type { RefusedOutside } from './canary/outside.ts';

/** What runs inside. `canary` marks a sandbox of our own test program: its attempts are expected, and told apart by the instance, never by what the program says. */
export type SandboxPurpose = 'stage' | 'text' | 'canary';

/** Trusted processes that may connect only to what is on their connect list (guard/). */
export type GuardedProcess = 'agent' | 'coordinator';

export interface SandboxLimits {
  /** Address space and locked memory are not limited by default: weights are mapped. */
  readonly threads_max: number;
  /** Attempts after which the process is stopped. */
  readonly violations_max: number;
  /**
   * Violations of one kind that are passed on one by one; later ones only raise the `count` of the next report, so
   * that a flood cannot write at will. Nothing is lost: `SandboxExit.violations` counts all. A canary, which must see
   * each of its attempts, raises it.
   */
  readonly reports_per_kind_max: number;
}

export const DEFAULT_SANDBOX_LIMITS: SandboxLimits = {
  threads_max: 64,
  violations_max: 100,
  reports_per_kind_max: 5,
};

/** `strike`: what aims outside, at programs, at files to write or at monitors ends the process. */
export type StrikePolicy = 'record' | 'strike';

/** Why a process was struck, and what it had in its hands then: no contents. */
export interface Struck {
  readonly kind: ViolationKind;
  readonly operation: string;
  /** Its memory map; empty where the system does not tell. */
  readonly mapped: readonly string[];
  /** Its descriptors. */
  readonly open: readonly string[];
}

export interface SandboxSpec {
  readonly purpose: SandboxPurpose;
  /** JavaScript file (one bundle) that the sandbox's own Node runs. */
  readonly entry: string;
  readonly args: readonly string[];
  /**
   * Exact files that may be read, besides what Node and the loader need. The sandbox resolves links first and
   * refuses anything that is not a regular file on a local file system.
   */
  readonly files: readonly string[];
  /** Folder of the engine libraries; its files are listed one by one, never allowed as a folder. */
  readonly library_dir?: string;
  readonly limits?: Partial<SandboxLimits>;
  /** Default: record. Never for a canary, whose attempts are expected. */
  readonly policy?: StrikePolicy;
  /** Extra environment; the process gets nothing of ours besides it. */
  readonly env?: Readonly<Record<string, string>>;
}

export type ViolationKind =
  | 'network'
  | 'dns'
  | 'write'
  | 'read'
  | 'exec'
  | 'signal'
  | 'memory'
  | 'ipc'
  | 'limit'
  | 'monitor'
  | 'crash'
  | 'other';

/** One attempt, refused. Text fields are escaped ASCII of at most 300 characters. */
export interface Violation {
  /** Counts up inside one sandbox instance. */
  readonly sequence: number;
  readonly instance: string;
  readonly purpose: SandboxPurpose | GuardedProcess;
  /** Unix time, seconds with fraction. */
  readonly at_seconds: number;
  readonly kind: ViolationKind;
  /** The system call or Seatbelt operation. */
  readonly operation: string;
  /** Where to: address, path, program, arguments; empty when unknown. Written by the attacker. */
  readonly target: string;
  /** The thread that asked; absent where it is not known. */
  readonly thread?: number;
  /** Of what it wanted to send. */
  readonly payload_bytes?: number;
  readonly refused_by: 'seccomp' | 'warden' | 'guard' | 'landlock' | 'seatbelt' | 'kernel';
  readonly seen_by: readonly ('warden' | 'guard' | 'seatbelt-log')[];
  /** More than 1 when several like it were folded together. */
  readonly count: number;
  /** True when the process was stopped because of it. */
  readonly stopped: boolean;
}

export interface SandboxExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why, in one sentence, when the sandbox stopped it; else empty. */
  readonly reason: string;
  readonly violations: number;
  /** Bounded, escaped tail of the process's stderr. */
  readonly stderr_tail: string;
  /** The policy stopped it. */
  readonly struck?: Struck;
}

export interface Sandbox {
  /** Random, per start. */
  readonly instance: string;
  /** Process id of the sandboxed process. */
  readonly pid: number;
  /** The engine's pipes. Bytes only; Node streams over real pipes (not sockets). */
  readonly input: Writable;
  readonly output: Readable;
  /** Ends the start phase: from now on only what computing needs is allowed. Resolves when in force. */
  seal(): Promise<void>;
  /** SIGKILL, at once; resolves with `exited`. */
  kill(reason: string): Promise<SandboxExit>;
  readonly exited: Promise<SandboxExit>;
  /** Kills its monitor, as an attacker would like to: for the canary, which looks whether the engine outlives it. */
  killMonitor?(): void;
  onViolation(listener: (violation: Violation) => void): void;
  /** Every file that was handed over, in order. */
  readonly filesRead: readonly string[];
  /**
   * Why attempts may have gone unseen (a monitor that is not heard, a log that can't be read, dropped messages, no
   * answer to a trial); empty while the monitor sees. Refusals hold all the same.
   */
  blind?(): string;
}

/** What this machine can enforce, found out by trying. */
export interface SandboxSupport {
  readonly ok: boolean;
  readonly platform: string;
  readonly mechanism: string;
  /** Second walls that are there ('landlock abi 7'). */
  readonly also: readonly string[];
  /** What is missing and what the choices are; empty when ok. */
  readonly missing: readonly { readonly what: string; readonly next: string }[];
}

/** Whether the system itself says that a process is locked in, and what it says. */
export interface Enforced {
  readonly state: 'yes' | 'no' | 'unknown';
  readonly finding: string;
}

export interface SandboxPlatform {
  support(): Promise<SandboxSupport>;
  launch(spec: SandboxSpec): Promise<Sandbox>;
  /** Read from the system now. */
  enforced?(pid: number): Promise<Enforced>;
  /** What a filter around minikeep itself refuses, asked by a process that has one of minikeep's own (guard/). */
  refusedOutside?(): Promise<readonly RefusedOutside[]>;
}
