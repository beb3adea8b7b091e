/** What SQLite's error numbers mean for a node's state, in one place. Numbers: sqlite.org/rescode.html */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';

export const SQLITE = {
  permission: 3,
  busy: 5,
  readOnly: 8,
  io: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  tooBig: 18,
  constraint: 19,
  notADatabase: 26,
} as const;

/** SQLite's primary error number in something thrown, or undefined if it was not thrown by SQLite. */
export function sqliteFault(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error) || !('errcode' in thrown)) return undefined;
  // The upper bytes say more about the same kind of fault.
  return typeof thrown.errcode === 'number' ? thrown.errcode & 0xff : undefined;
}

const SAVE = 'Keep a copy of the whole folder, then put it back from a copy made before.';

/** Anything thrown while `file` was used, as an error of ours. Faults of our own statements stay unexpected. */
export function databaseFault(file: string, thrown: unknown): MinikeepError {
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  const make = (code: string, message: string, next: string): MinikeepError =>
    new MinikeepError(code, message, { next, cause: thrown });
  switch (sqliteFault(thrown)) {
    case SQLITE.corrupt:
    case SQLITE.notADatabase:
      return make('state.damaged', `the database ${file} is damaged: ${why}`, SAVE);
    case SQLITE.full:
      return make(
        'state.disk_full',
        `there is no room left for the database ${file}; nothing of this change was kept`,
        "Free space on the home's disk, then do it again.",
      );
    case SQLITE.io:
      return make(
        'state.disk_failed',
        `the disk failed while the database ${file} was used: ${why}`,
        'Look at the system log for faults of the disk; keep a copy of the folder.',
      );
    case SQLITE.permission:
    case SQLITE.readOnly:
    case SQLITE.cannotOpen:
      return make(
        'state.unusable',
        `can't open or write the database ${file}: ${why}`,
        'Check that it is a file which this user may read and write.',
      );
    case SQLITE.busy:
      return make(
        'state.in_use',
        `another program holds the database ${file}`,
        'End the program that has it open (lsof names it), then do it again.',
      );
    default:
      return toMinikeepError(thrown);
  }
}
