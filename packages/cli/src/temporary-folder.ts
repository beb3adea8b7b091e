/** The folder in which a command keeps what must be gone when it ends. */
import { MinikeepError } from '@minikeep/protocol';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * Only this user can read it. At once, so that whoever makes it can say who removes it before anything (a second Ctrl-C)
 * ends this process. Throws `local.no_folder`.
 */
export function temporaryFolder(prefix: string): string {
  const parent = tmpdir();
  try {
    return mkdtempSync(path.join(parent, prefix));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MinikeepError('local.no_folder', `can't make a folder in ${parent}: ${why}`, {
      next: 'Set TMPDIR to a folder that exists, may be written and has room.',
      cause,
    });
  }
}
