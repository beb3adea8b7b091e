/**
 * What is said between the three: whoever starts a trusted process (the job), the process, and its guard. One JSON line
 * a message, over two pipes of the process's own. The guard believes the process nothing: it may be the one that was
 * turned.
 */
import type { GuardedProcess, Violation } from '../sandbox.ts';

/** How the process finds its pipes: `3,4`, the descriptors that it writes to and reads from. */
export const GUARD_PIPES = 'MINIKEEP_GUARD';
/** Why there is no guard although one was asked for. */
export const GUARD_MISSING = 'MINIKEEP_GUARD_MISSING';

/** The guard's first argument. */
export interface GuardJob {
  readonly purpose: GuardedProcess;
  /** A file in dist/, Node's options for it, its arguments. */
  readonly program: string;
  readonly flags: readonly string[];
  readonly args: readonly string[];
  /** host:port on which it may listen; port 0: any of that host's. */
  readonly listen: readonly string[];
  /** Networks (CIDR) besides those that this machine is attached to, as the operator named them. */
  readonly networks: readonly string[];
  /** Multicast DNS on the local link. */
  readonly discovery: boolean;
  readonly starter_pid: number;
}

/** The process's own descriptors of the pipes that a warden gets. */
export interface WardenWires {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
  /** Absent when no engine is to be started. */
  readonly engine?: { readonly stdin: number; readonly stdout: number };
}

export type ToGuard =
  /** About to connect there. */
  | { readonly type: 'peer'; readonly address: string }
  | { readonly type: 'warden'; readonly id: number; readonly wires: WardenWires }
  | { readonly type: 'kill_warden'; readonly id: number };

export type FromGuard =
  /** Every FOLD_MS. */
  | { readonly type: 'alive' }
  | { readonly type: 'violation'; readonly violation: Violation }
  /** The connect list changed, or an address was not taken. */
  | {
      readonly type: 'listed';
      readonly address: string;
      readonly listed: boolean;
      readonly why: string;
    }
  | { readonly type: 'warden'; readonly id: number; readonly pid: number }
  | {
      readonly type: 'warden_ended';
      readonly id: number;
      readonly code: number | null;
      readonly signal: string | null;
      /** Why it never began; else empty. */
      readonly why: string;
    };
