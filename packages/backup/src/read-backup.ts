/** Reads a backup into a folder: every entry is checked before it gets a place, whoever made the file. */
import { createReadStream, mkdirSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { Decrypter } from 'age-encryption';
import { extract, type Header } from 'tar-stream';

import { MANIFEST, MANIFEST_FILE, NEEDED, belongs, type Manifest } from './contents.ts';
import { BACKUP_BYTES_MAX, ENTRIES_MAX, MANIFEST_BYTES_MAX } from './limits.ts';

/** What age says when the key of the file does not come out; every other fault is the file's. */
const NOT_THE_KEY = "no identity matched any of the file's recipients";
/** How an age file begins whose only key is a passphrase. */
const BEGINNING = 'age-encryption.org/v1\n-> scrypt ';

/**
 * Writes the backup's files into `folder`, which is there and empty. Throws `backup.unreadable`, `backup.not_one`,
 * `backup.passphrase_wrong`, `backup.damaged`, the signal's reason.
 */
export async function readBackup(
  file: string,
  passphrase: string,
  folder: string,
  signal: AbortSignal,
): Promise<Manifest> {
  await checkBeginning(file);
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase);
  const source = createReadStream(file, { signal });
  try {
    const encrypted = Readable.toWeb(source) as ReadableStream<Uint8Array>;
    const plain = await decrypter.decrypt(encrypted).catch((cause: unknown) => {
      signal.throwIfAborted();
      if (cause instanceof Error && cause.message === NOT_THE_KEY)
        throw wrongPassphrase(file, cause);
      throw cause;
    });
    return await unpack(Readable.from(plain), folder, signal);
  } catch (thrown) {
    signal.throwIfAborted();
    const { code } = thrown as NodeJS.ErrnoException;
    // What the disk says, and what we found; the rest is a file that was changed or cut.
    if (thrown instanceof MinikeepError || (typeof code === 'string' && code.startsWith('E')))
      throw thrown;
    throw damaged(thrown instanceof Error ? thrown.message : String(thrown), thrown);
  } finally {
    source.destroy();
  }
}

async function unpack(plain: Readable, folder: string, signal: AbortSignal): Promise<Manifest> {
  const archive = extract();
  const fed = pipeline(plain, archive, { signal });
  // Reported below: the loop ends with the same fault.
  fed.catch(() => {});
  const seen = new Set<string>();
  let manifest: Manifest | undefined;
  let bytes = 0;
  for await (const entry of archive) {
    const { name, size, type } = entry.header;
    bytes += size;
    if (type !== 'file' || seen.has(name) || seen.size >= ENTRIES_MAX || bytes > BACKUP_BYTES_MAX)
      throw damaged(`it has an entry that no backup has: ${JSON.stringify(name.slice(0, 100))}`);
    seen.add(name);
    if (manifest === undefined) manifest = await manifestOf(entry);
    else if (belongs(name)) await place(entry, folder, manifest.sizes[name]);
    else throw damaged(`it has a file without a place: ${JSON.stringify(name.slice(0, 100))}`);
  }
  await fed;
  const missing = NEEDED.find((name) => !seen.has(name));
  if (manifest === undefined || missing !== undefined)
    throw damaged(`it has no ${missing ?? MANIFEST_FILE}`);
  return manifest;
}

type Entry = AsyncIterable<unknown> & { readonly header: Header };

async function manifestOf(entry: Entry): Promise<Manifest> {
  const { name, size } = entry.header;
  if (name !== MANIFEST_FILE || size > MANIFEST_BYTES_MAX)
    throw damaged(`it has no ${MANIFEST_FILE}`);
  const parts: Uint8Array[] = [];
  for await (const part of entry) parts.push(part as Uint8Array);
  const text = Buffer.concat(parts).toString('utf8');
  const format = formatOf(text);
  if (format !== undefined && format !== 1)
    throw new MinikeepError('backup.newer', 'it was made by a newer minikeep', {
      next: 'Install that version here first.',
    });
  const parsed = MANIFEST.safeParse(JSON.parse(text));
  if (!parsed.success) throw damaged(`its ${MANIFEST_FILE} is none`);
  return parsed.data;
}

function formatOf(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return typeof value === 'object' && value !== null && 'format' in value
    ? value.format
    : undefined;
}

async function place(entry: Entry, folder: string, sizeBytes: number | undefined): Promise<void> {
  const file = path.join(folder, entry.header.name);
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'wx', 0o600);
  try {
    let written = 0;
    for await (const part of entry) {
      await handle.writeFile(part as Uint8Array);
      written += (part as Uint8Array).byteLength;
    }
    if (sizeBytes !== undefined && sizeBytes > written) await handle.truncate(sizeBytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function checkBeginning(file: string): Promise<void> {
  try {
    if (!(await stat(file)).isFile()) throw new Error('it is not a file');
    const handle = await open(file, 'r');
    try {
      const buffer = Buffer.alloc(BEGINNING.length);
      await handle.read(buffer, 0, buffer.length, 0);
      if (buffer.toString('latin1') === BEGINNING) return;
    } finally {
      await handle.close();
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MinikeepError('backup.unreadable', `can't read ${file}: ${why}`, {
      next: 'Give the file that `minikeep backup` wrote.',
      exitCode: EXIT.usage,
      cause,
    });
  }
  throw new MinikeepError('backup.not_one', `${file} is not a backup of minikeep`, {
    next: 'Give the file that `minikeep backup` wrote.',
    exitCode: EXIT.usage,
  });
}

const wrongPassphrase = (file: string, cause: unknown): MinikeepError =>
  new MinikeepError('backup.passphrase_wrong', `${file} does not open with this passphrase`, {
    next: 'Give the file with the passphrase that it was made with: --passphrase-file FILE. Nobody can open it without. If it is the right one, the first lines of the backup were changed: take another copy.',
    exitCode: EXIT.denied,
    cause,
  });

const damaged = (why: string, cause?: unknown): MinikeepError =>
  new MinikeepError('backup.damaged', `the backup is damaged: ${why}`, {
    next: 'Take another copy of it, or an older backup.',
    ...(cause === undefined ? {} : { cause }),
  });
