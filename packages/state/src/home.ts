/**
 * A node's home: the folder with all that it must keep (`--home DIR` or MINIKEEP_HOME). Only its owner may look into
 * it, and only one process uses it at a time, so that nobody reads what another is about to change.
 */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import {
  readKeyFile,
  removeKeyFile,
  removeUnfinished,
  syncFolder,
  writeKeyFile,
} from './key-files.ts';
import { SQLITE, sqliteFault } from './sqlite-faults.ts';

const LOCK = 'lock';
/** Who holds the lock; only for the error's text, the lock itself is the kernel's. */
const HOLDER = 'lock.pid';

export class Home {
  readonly folder: string;
  readonly #lock: DatabaseSync;

  private constructor(folder: string, lock: DatabaseSync) {
    this.folder = folder;
    this.#lock = lock;
  }

  /**
   * Opens the home, makes it if there is none, and keeps it locked until `close` or the end of the process, whatever
   * ends it. Throws `home.in_use`, `home.not_a_folder`, `home.open_to_others`, `home.other_owner`, `home.unusable`,
   * `system.disk_full`.
   */
  static open(folder: string): Home {
    const home = path.resolve(folder);
    make(home);
    check(home);
    const lock = takeLock(home);
    try {
      removeUnfinished(home);
      writeFileSync(path.join(home, HOLDER), `${process.pid}\n`, { mode: 0o600 });
      return new Home(home, lock);
    } catch (cause) {
      lock.close();
      throw unusable(home, cause);
    }
  }

  readKey(name: string): string | undefined {
    return readKeyFile(this.folder, name);
  }

  writeKey(name: string, content: string): void {
    writeKeyFile(this.folder, name, content);
  }

  removeKey(name: string): void {
    removeKeyFile(this.folder, name);
  }

  close(): void {
    rmSync(path.join(this.folder, HOLDER), { force: true });
    this.#lock.close();
  }
}

/** Not mkdir's `recursive`: in some file systems (/proc) Node's never ends. */
function make(home: string): void {
  try {
    const missing: string[] = [];
    for (let at = home; statSync(at, { throwIfNoEntry: false }) === undefined;) {
      missing.push(at);
      at = path.dirname(at);
    }
    for (const folder of missing.toReversed()) {
      mkdirSync(folder, { mode: 0o700 });
      // Its name has to last as well.
      syncFolder(path.dirname(folder));
    }
    if (!statSync(home).isDirectory()) throw notAFolder(home);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : '';
    if (code === 'ENOTDIR') throw notAFolder(home, cause);
    throw unusable(home, cause);
  }
}

function notAFolder(home: string, cause?: unknown): MinikeepError {
  return new MinikeepError('home.not_a_folder', `${home} is not a folder`, {
    next: 'Give the path of a folder, or of one to make: --home DIR',
    cause,
  });
}

function check(home: string): void {
  const stat = statSync(home);
  const user = process.getuid?.();
  if (user !== undefined && stat.uid !== user)
    throw new MinikeepError(
      'home.other_owner',
      `${home} belongs to user ${stat.uid}, and this process runs as user ${user}`,
      { next: 'Run minikeep as that user, or give another folder with --home.' },
    );
  if ((stat.mode & 0o077) !== 0)
    throw new MinikeepError('home.open_to_others', `others may look into ${home}`, {
      next: `Give a folder of its own, or, if nobody else had access: chmod 700 "${home}"`,
    });
}

/**
 * SQLite's own lock on a file that holds nothing: the kernel gives it back when the process ends, however it ends, and
 * it works on every platform. Apart from the database, so that a damaged database can still be looked at alone.
 */
function takeLock(home: string): DatabaseSync {
  const file = path.join(home, LOCK);
  let lock: DatabaseSync | undefined;
  try {
    // Made by us for its mode; SQLite would ask the umask.
    writeFileSync(file, '', { mode: 0o600, flag: 'a' });
    lock = new DatabaseSync(file, { timeout: 0, allowExtension: false });
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (cause) {
    lock?.close();
    if (sqliteFault(cause) === SQLITE.busy) throw inUse(home, cause);
    throw unusable(home, cause);
  }
}

function inUse(home: string, cause: unknown): MinikeepError {
  let holder = '';
  try {
    const text = readFileSync(path.join(home, HOLDER), 'utf8').slice(0, 20).trim();
    if (/^[0-9]{1,10}$/.test(text)) holder = ` (process ${text})`;
  } catch {
    // It is just starting, or ending.
  }
  return new MinikeepError('home.in_use', `another process of minikeep uses ${home}${holder}`, {
    next: 'End that process first, or give this node a home of its own: --home DIR',
    cause,
  });
}

function unusable(home: string, cause: unknown): MinikeepError {
  const known = toMinikeepError(cause);
  if (known.code !== 'internal.unexpected') return known;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MinikeepError('home.unusable', `can't use ${home} as a home: ${why}`, {
    next: 'Check that this user may write there, or give another folder: --home DIR',
    cause,
  });
}
