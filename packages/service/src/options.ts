/** What a service is made from: the same for both systems. */

export interface ServiceOptions {
  /** Absolute; belongs to a cluster. */
  readonly home: string;
  /** The command, by a path that stays the same when a newer version is installed. */
  readonly program: string;
  /** The Node that runs it, by its real path: macOS's firewall knows programs by theirs. */
  readonly node: string;
  readonly version: string;
  /** Whom the node runs as; undefined: whoever the home belongs to, or a user of its own if that is root. */
  readonly user?: string | undefined;
  /** MiB that the GPU may wire, set again at each boot; macOS only. */
  readonly wiredLimitMebibytes?: number | undefined;
  /** Lets the node's user read the system's log (group admin), where refused attempts are seen; macOS only. */
  readonly readLog: boolean;
  /** Leaves sleep and restarts as they are. */
  readonly keepPower: boolean;
}

export const UNIT = 'minikeep.service';
export const LABEL = 'minikeep.node';
export const HELPER_LABEL = 'minikeep.machine';
export const LINUX_USER = 'minikeep';
/** macOS's services have users that begin with a line. */
export const MACOS_USER = '_minikeep';
/** Where a node's home lies that no person's folder holds. */
export const SYSTEM_HOMES: Readonly<Partial<Record<NodeJS.Platform, string>>> = {
  linux: '/var/lib/minikeep',
  darwin: '/var/db/minikeep',
};
/** Longer than `minikeep start` gives its processes to end in order. */
export const STOP_SECONDS = 30;
/** Connections, and a file for each piece of a slice. */
export const FILES_MAX = 65_536;
