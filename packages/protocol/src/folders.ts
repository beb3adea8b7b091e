/** Folders that are made with all that lead to them. */
import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * Makes a folder and what is missing above it, each for this user alone. Not mkdir's `recursive`: in some file systems
 * (/proc) Node's never ends. Throws what the system says.
 */
export async function makeFolder(folder: string): Promise<void> {
  const missing: string[] = [];
  for (let at = path.resolve(folder); !(await exists(at)); at = path.dirname(at)) missing.push(at);
  for (const each of missing.toReversed())
    await mkdir(each, { mode: 0o700 }).catch((thrown: unknown) => {
      // Another process may have made it meanwhile.
      if (!isCode(thrown, 'EEXIST')) throw thrown;
    });
}

async function exists(folder: string): Promise<boolean> {
  try {
    await stat(folder);
    return true;
  } catch (thrown) {
    if (isCode(thrown, 'ENOENT')) return false;
    throw thrown;
  }
}

const isCode = (thrown: unknown, code: string): boolean =>
  thrown instanceof Error && 'code' in thrown && thrown.code === code;
