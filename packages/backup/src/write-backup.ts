/**
 * Writes a backup: a tar archive, encrypted with a passphrase in the age format, which other programs read as well
 * (`age -d`). It is written beside its place and renamed, so that it is there in whole or not at all.
 */
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { keptFiles, type KeptFile } from '@minikeep/models';
import { DATABASE_FILE, readSettings, requireKeyFile, syncFolder } from '@minikeep/state';
import { Encrypter } from 'age-encryption';
import { pack, type Pack } from 'tar-stream';
import { KEYS, MANIFEST_FILE, type Manifest } from './contents.ts';
import { BACKUP_BYTES_MAX, ENTRIES_MAX } from './limits.ts';

const WORK_FACTOR = 18;

export interface WriteBackupOptions {
  readonly home: string;
  /** A copy of the home's database at one instant. */
  readonly database: string;
  readonly file: string;
  readonly passphrase: string;
  /** scrypt's cost as a power of two; the default takes about a second and 256 MiB. */
  readonly workFactor?: number;
  readonly version: string;
  readonly now: number;
  readonly signal: AbortSignal;
}

/** Returns its size in bytes. Throws `backup.exists`, `backup.too_large`, `backup.unwritable`, `home.*`, the signal's reason. */
export async function writeBackup(options: WriteBackupOptions): Promise<number> {
  const { home, file, passphrase, signal } = options;
  await takePlace(file);
  const kept = await keptFiles(home).catch(async (thrown: unknown) => {
    await rm(file, { force: true });
    throw thrown;
  });
  const archive = pack();
  const filled = fill(archive, options, kept);
  filled.catch((thrown: unknown) => archive.destroy(toError(thrown)));
  const encrypter = new Encrypter();
  encrypter.setPassphrase(passphrase);
  encrypter.setScryptWorkFactor(options.workFactor ?? WORK_FACTOR);
  const part = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.part`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(part, 'wx', 0o600);
    const plain = Readable.toWeb(Readable.from(archive)) as ReadableStream<Uint8Array>;
    const encrypted = await encrypter.encrypt(plain);
    for await (const bytes of encrypted) {
      signal.throwIfAborted();
      await handle.writeFile(bytes);
    }
    await filled;
    await handle.sync();
    const { size } = await handle.stat();
    await handle.close();
    await rename(part, file);
    syncFolder(path.dirname(path.resolve(file)));
    return size;
  } catch (thrown) {
    archive.destroy();
    await handle?.close().catch(() => {});
    if (handle !== undefined) await rm(part, { force: true });
    await rm(file, { force: true });
    throw fault(thrown, file);
  }
}

async function fill(
  archive: Pack,
  { home, database, version, now, signal }: WriteBackupOptions,
  kept: readonly KeptFile[],
): Promise<void> {
  const settings = readSettings(home);
  if (settings === undefined) throw new Error('the home has no settings');
  const { size: databaseBytes } = await stat(database);
  const bytes = kept.reduce((sum, { dataBytes }) => sum + dataBytes, databaseBytes);
  if (bytes > BACKUP_BYTES_MAX || kept.length > ENTRIES_MAX) throw tooLarge(bytes);
  const holes = kept.filter((each) => each.sizeBytes !== each.dataBytes);
  const manifest: Manifest = {
    format: 1,
    minikeep_version: version,
    cluster_id: settings.cluster_id,
    cluster_name: settings.cluster_name,
    node: settings.node,
    made: new Date(now).toISOString(),
    sizes: Object.fromEntries(holes.map(({ name, sizeBytes }) => [name, sizeBytes])),
  };
  archive.entry({ name: MANIFEST_FILE }, JSON.stringify(manifest));
  for (const name of KEYS) archive.entry({ name, mode: 0o600 }, requireKeyFile(home, name));
  await addFile(archive, DATABASE_FILE, database, databaseBytes, signal);
  for (const { name, dataBytes } of kept)
    await addFile(archive, name, path.join(home, name), dataBytes, signal);
  archive.finalize();
}

async function addFile(
  archive: Pack,
  name: string,
  from: string,
  bytes: number,
  signal: AbortSignal,
): Promise<void> {
  const entry = archive.entry({ name, mode: 0o600, size: bytes });
  if (bytes === 0) entry.end('');
  else await pipeline(createReadStream(from, { end: bytes - 1 }), entry, { signal });
}

/** An empty file of our own holds the place, so that nobody else's is replaced at the end. */
async function takePlace(file: string): Promise<void> {
  try {
    await (await open(file, 'wx', 0o600)).close();
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') throw fault(thrown, file);
    throw new MinikeepError('backup.exists', `there is already a file ${file}`, {
      next: 'Give another name: an older backup is never overwritten.',
      exitCode: EXIT.usage,
    });
  }
}

const tooLarge = (bytes: number): MinikeepError =>
  new MinikeepError('backup.too_large', `the cluster's state is ${bytes} bytes`, {
    next: 'Remove models that nobody uses: minikeep model rm NAME',
  });

function fault(thrown: unknown, file: string): Error {
  const error = toError(thrown);
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof MinikeepError || typeof code !== 'string' || !code.startsWith('E'))
    return error;
  return new MinikeepError('backup.unwritable', `can't write ${file}: ${error.message}`, {
    next: 'Give a place that this user may write to, with room for the backup.',
    cause: thrown,
  });
}

const toError = (thrown: unknown): Error =>
  thrown instanceof Error ? thrown : new Error(String(thrown));
