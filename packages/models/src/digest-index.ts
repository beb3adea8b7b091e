/**
 * Remembers digests that are expensive to find out: a model's by what identifies its files on disk (device, inode, size,
 * time of change), a slice's by its key and the model's digest. A forgotten or damaged entry only costs time: agents
 * verify what they store and load against the digest, whatever this file says.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { makeFolder } from '@minikeep/protocol/rpc';

const ENTRIES_MAX = 5_000;
const Entry = z.strictObject({
  subject: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export class DigestIndex {
  readonly #folder: string;

  constructor(cacheFolder: string) {
    this.#folder = path.join(cacheFolder, 'digests');
  }

  async find(subject: string): Promise<string | undefined> {
    try {
      const parsed = Entry.parse(JSON.parse(await readFile(this.#file(subject), 'utf8')));
      return parsed.subject === subject ? parsed.sha256 : undefined;
    } catch {
      // Absent, half-written by a crash, or of another version: found out anew.
      return undefined;
    }
  }

  /** Best effort: a cache that can't be written is no reason to fail. */
  async remember(subject: string, sha256: string): Promise<void> {
    const file = this.#file(subject);
    const temporary = `${file}.${randomBytes(4).toString('hex')}`;
    try {
      await makeFolder(this.#folder);
      await writeFile(temporary, JSON.stringify({ subject, sha256 }), { mode: 0o600 });
      await rename(temporary, file);
      await this.#bound();
    } catch {
      await rm(temporary, { force: true }).catch(() => {});
    }
  }

  async #bound(): Promise<void> {
    const names = await readdir(this.#folder);
    if (names.length <= ENTRIES_MAX) return;
    for (const name of names.slice(0, names.length - ENTRIES_MAX))
      await rm(path.join(this.#folder, name), { force: true });
  }

  #file(subject: string): string {
    return path.join(this.#folder, createHash('sha256').update(subject).digest('hex'));
  }
}

/** Names files by what changes when their content does; moving or renaming a file keeps it. */
export async function fileIdentity(files: readonly string[]): Promise<string> {
  const parts: string[] = [];
  for (const file of files) {
    const info = await stat(file, { bigint: true });
    parts.push(`${info.dev}.${info.ino}.${info.size}.${info.mtimeNs}.${info.ctimeNs}`);
  }
  return `file ${parts.join(' ')}`;
}
