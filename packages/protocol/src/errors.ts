/**
 * The one error type that users see: a stable code, what happened, and what to do next.
 * Libraries' errors are converted to it at one point per boundary (see `toMinikeepError`).
 */

/** Exit codes of the command line (CLI.md). */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  checkFailed: 3,
  unreachable: 4,
  denied: 5,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface MinikeepErrorOptions {
  /** The next step for the reader: a command, or what to change. One sentence. */
  readonly next: string;
  readonly exitCode?: ExitCode;
  readonly cause?: unknown;
  /** Machine-readable facts, snake_case with units; printed with `--json` only. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
}

export class MinikeepError extends Error {
  override readonly name = 'MinikeepError';
  /** `area.what`, for example `gguf.truncated`. Stable: scripts rely on it. */
  readonly code: string;
  readonly next: string;
  readonly exitCode: ExitCode;
  readonly details: Readonly<Record<string, string | number | boolean>>;

  constructor(code: string, message: string, options: MinikeepErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.next = options.next;
    this.exitCode = options.exitCode ?? EXIT.failed;
    this.details = options.details ?? {};
  }

  toJSON(): { error: Record<string, unknown> } {
    return { error: { code: this.code, message: this.message, next: this.next, ...this.details } };
  }
}

const ROOM =
  'Free space, or choose folders on a larger disk with TMPDIR (temporary files) and XDG_CACHE_HOME (slices).';
const FILES = 'Raise the limit of open files (ulimit -n 4096), or end other programs.';
/** What any call may meet on a machine that is at its limits: no fault of minikeep. */
const REFUSALS: ReadonlyMap<unknown, readonly [code: string, message: string, next: string]> =
  new Map([
    ['ENOSPC', ['system.disk_full', 'the disk is full', ROOM]],
    ['EDQUOT', ['system.disk_full', "this user's share of the disk is used up", ROOM]],
    ['EROFS', ['system.read_only', 'the disk may not be written', ROOM]],
    ['EMFILE', ['system.too_many_files', 'this program may not open more files', FILES]],
    ['ENFILE', ['system.too_many_files', 'this machine may not open more files', FILES]],
  ]);

/**
 * Turns anything thrown into a MinikeepError: what the system refused becomes `system.*`, and an unforeseen error keeps
 * its message under `internal.unexpected`.
 */
export function toMinikeepError(thrown: unknown): MinikeepError {
  if (thrown instanceof MinikeepError) return thrown;
  const refusal = REFUSALS.get(thrown instanceof Error && 'code' in thrown ? thrown.code : '');
  if (refusal !== undefined)
    return new MinikeepError(refusal[0], refusal[1], { next: refusal[2], cause: thrown });
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new MinikeepError('internal.unexpected', message || 'an error without a message', {
    next: 'This is a fault in minikeep: run the command again with --verbose and report what it prints.',
    cause: thrown,
  });
}
