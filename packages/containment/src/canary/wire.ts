/** The lines between runner and canary as both sides know them; checked by protocol.ts on the runner's side. */
import type { Facts } from './facts.ts';
import type { Step } from './types.ts';

/** The canary's argument that makes it try outside of a sandbox, for outside.ts. */
export const OUTSIDE = 'outside';

/** Longest line either way, bytes. A job with every other system call has some 30 KiB. */
export const LINE_BYTES_MAX = 256 * 1024;

export interface Job {
  readonly number: number;
  /** Paths opened in vain before and after, so that the sandbox's own order of reports says what belongs here. */
  readonly marks: readonly [begin: string, end: string] | null;
  readonly ways: readonly (readonly Step[])[];
  readonly facts: Facts;
}

export interface Observed {
  /** Index of the step in its way. */
  readonly step: number;
  readonly call: string;
  /** In decimal digits, since addresses exceed 2^53. */
  readonly result: string;
  readonly errno: number;
  readonly refused: boolean;
  readonly note: string;
}

export interface WayOutcome {
  /** refused: broke off at an attempt. done: came to its end. unprepared: what it needs was not there. */
  readonly outcome: 'refused' | 'done' | 'unprepared';
  readonly steps: readonly Observed[];
}

export type CanaryLine =
  | { readonly event: 'ready'; readonly pid: number; readonly node: string }
  | { readonly event: 'begin'; readonly number: number }
  | { readonly event: 'end'; readonly number: number; readonly ways: readonly WayOutcome[] }
  /** The canary could not even try; it ends after saying so. */
  | { readonly event: 'fault'; readonly message: string };
