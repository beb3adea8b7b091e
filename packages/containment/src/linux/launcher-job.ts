/**
 * What the warden tells the launcher, and what the launcher answers before it becomes the engine. One JSON line
 * each way over their socket; the listener follows as a descriptor.
 */

export interface LauncherJob {
  /** Only when root: users to become, best first. */
  readonly uids: readonly number[];
  readonly is_root: boolean;
  /** Node's arguments: options, entry, the engine's arguments. */
  readonly argv: readonly string[];
  /** The whole environment, NAME=value. */
  readonly env: readonly string[];
  readonly threads_max: number;
  readonly warden_pid: number;
}

/** Where the launcher failed: a step's name, and errno where there was one. */
export interface LauncherFault {
  readonly step: string;
  readonly errno: number;
  readonly message: string;
}

/** What the launcher found and did, said before the filter closes. */
export interface LauncherReady {
  readonly uid: number;
  readonly gid: number;
  readonly landlock_abi: number;
  /** Of the descriptor that execveat gets: the warden lets only that one pass. */
  readonly program_fd: number;
}

export type LauncherReply =
  /** The launcher runs and has its job. */
  | { readonly type: 'begun' }
  | { readonly type: 'ready'; readonly ready: LauncherReady }
  | { readonly type: 'fault'; readonly fault: LauncherFault };

export const JOB_BYTES_MAX = 256 * 1024;
/** The launcher's end of the socket. */
export const LAUNCHER_SOCKET_FD = 3;
export const LAUNCHER_FAULT_EXIT = 9;
