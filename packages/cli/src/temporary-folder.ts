/** The folder in which a command keeps what must be gone when it ends. */
import { MinikeepError } from '@minikeep/protocol';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Only this user can read it. Throws `local.no_folder`. */
export async function temporaryFolder(prefix: string): Promise<string> {
  const parent = tmpdir();
  try {
    return await mkdtemp(path.join(parent, prefix));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MinikeepError('local.no_folder', `can't make a folder in ${parent}: ${why}`, {
      next: 'Set TMPDIR to a folder that exists, may be written and has room.',
      cause,
    });
  }
}
