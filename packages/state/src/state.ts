/**
 * A node's state: one SQLite database in its home. Every change is a transaction that is on the disk when `write`
 * returns, so whatever was acknowledged is there after a crash, and nothing is half there.
 */
import { lstatSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, backup } from 'node:sqlite';
import { MinikeepError } from '@minikeep/protocol';
import {
  appendEvent,
  differsFrom,
  endOf,
  eraOf,
  latestOfKind,
  listEvents,
  rawEvents,
  verifyEvents,
  type Event,
  type RawEvent,
} from './events.ts';
import type { Home } from './home.ts';
import { syncFolder } from './key-files.ts';
import {
  DATABASE_BYTES_MAX,
  OPEN_VERIFY_EVENTS,
  QUICK_CHECK_BYTES_MAX,
  WAL_BYTES_KEPT,
} from './limits.ts';
import { MIGRATIONS } from './migrations.ts';
import { databaseFault } from './sqlite-faults.ts';

export const DATABASE_FILE = 'state.db';
const VERSION = MIGRATIONS.length;
/** 'mkep': another program's database is not taken for ours. */
const APPLICATION_ID = 0x6d6b6570;

/** What a transaction may do: statements, and entries of the event log. */
export interface Transaction {
  readonly database: DatabaseSync;
  /** Appends to the event log and returns the entry's number; it is kept if and only if the transaction is. */
  readonly event: (kind: string, data: Readonly<Record<string, unknown>>) => number;
}

export class State {
  readonly file: string;
  readonly #database: DatabaseSync;
  readonly #now: () => number;
  readonly #listeners = new Set<() => void>();

  private constructor(file: string, database: DatabaseSync, now: () => number) {
    this.file = file;
    this.#database = database;
    this.#now = now;
  }

  /**
   * Opens the home's database, makes or migrates it, and verifies the newest events.
   * Throws `state.damaged`, `state.newer_version`, `state.not_ours`, `state.not_a_file`, `state.unusable`,
   * `state.disk_full`, `state.disk_failed`, `state.in_use`, `events.broken`.
   */
  static open(home: Home, now: () => number): State {
    const file = path.join(home.folder, DATABASE_FILE);
    let database: DatabaseSync | undefined;
    try {
      const sizeBytes = prepareFile(file);
      database = new DatabaseSync(file, {
        timeout: 0,
        enableForeignKeyConstraints: true,
        enableDoubleQuotedStringLiterals: false,
        allowExtension: false,
        defensive: true,
      });
      configure(database);
      checkIdentity(database, file);
      if (sizeBytes <= QUICK_CHECK_BYTES_MAX) checkPages(database, file);
      migrate(database);
      syncFolder(home.folder);
      verifyEvents(database, OPEN_VERIFY_EVENTS);
      return new State(file, database, now);
    } catch (thrown) {
      database?.close();
      throw databaseFault(file, thrown);
    }
  }

  /** Runs `work` in one transaction; on return its changes are on the disk, on a throw there are none. */
  write<T>(work: (transaction: Transaction) => T): T {
    const database = this.#database;
    let events = 0;
    let result: T;
    try {
      database.exec('BEGIN IMMEDIATE');
      result = work({
        database,
        event: (kind, data) => {
          events += 1;
          return appendEvent(database, this.#now(), kind, data);
        },
      });
      database.exec('COMMIT');
    } catch (thrown) {
      // A full disk has already undone it.
      if (database.isOpen && database.isTransaction) database.exec('ROLLBACK');
      throw databaseFault(this.file, thrown);
    }
    if (events > 0) for (const listener of this.#listeners) listener();
    return result;
  }

  /** Calls back whenever the event log has grown; returns what ends that. */
  onEvents(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Number of the newest entry; 0 while there is none. */
  lastEvent(): number {
    return this.read((database) => endOf(database).number);
  }

  /** Runs `work` on one state of the database, without changing it. */
  read<T>(work: (database: DatabaseSync) => T): T {
    const database = this.#database;
    try {
      database.exec('BEGIN');
      return work(database);
    } catch (thrown) {
      throw databaseFault(this.file, thrown);
    } finally {
      if (database.isOpen && database.isTransaction) database.exec('ROLLBACK');
    }
  }

  /** Events from `from` on, oldest first, at most a page. */
  events(from: number, count: number): Event[] {
    return this.read((database) => listEvents(database, from, count));
  }

  /** Where the log ends, and how often the cluster was restored. */
  end(): { readonly number: number; readonly digest: Uint8Array; readonly era: number } {
    return this.read((database) => ({ ...endOf(database), era: eraOf(database) }));
  }

  /** Entries as they stand there, to the byte. */
  rawEvents(from: number, count: number): RawEvent[] {
    return this.read((database) => rawEvents(database, from, count));
  }

  /** Why the log does not fit what somebody remembers of it; empty: it does. */
  differs(head: {
    readonly era: number;
    readonly number: number;
    readonly digest: Uint8Array;
  }): string {
    return this.read((database) => differsFrom(database, head));
  }

  /** The latest of one kind, oldest first. */
  latestEvents(kind: string, count: number): Event[] {
    return this.read((database) => latestOfKind(database, kind, count));
  }

  /** Verifies the whole event log; returns the number of entries. Throws `events.broken`. */
  verifyAllEvents(): number {
    return this.read((database) => verifyEvents(database, Infinity));
  }

  /** Writes the database as it is at one instant into a new file, while it goes on being used. Throws `state.*`. */
  async snapshot(file: string): Promise<void> {
    writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
    try {
      await backup(this.#database, file);
    } catch (thrown) {
      throw databaseFault(file, thrown);
    }
  }

  close(): void {
    this.#database.close();
  }
}

/** Makes the file with its mode, or checks that what is there can be one; returns its size. */
function prepareFile(file: string): number {
  const stat = lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined) {
    writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
    return 0;
  }
  if (stat.isFile()) return stat.size;
  throw new MinikeepError(
    'state.not_a_file',
    `${file} is not a file, so it can't be the database`,
    {
      next: 'Move it away, and put the database back from a copy made before.',
    },
  );
}

function configure(database: DatabaseSync): void {
  database.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA secure_delete = ON;
    PRAGMA journal_size_limit = ${WAL_BYTES_KEPT};
  `);
  const pageBytes = number(database, 'page_size');
  database.exec(`PRAGMA max_page_count = ${Math.floor(DATABASE_BYTES_MAX / pageBytes)}`);
}

function number(database: DatabaseSync, pragma: string): number {
  return Object.values(database.prepare(`PRAGMA ${pragma}`).get() ?? {})[0] as number;
}

function checkIdentity(database: DatabaseSync, file: string): void {
  const version = number(database, 'user_version');
  const application = number(database, 'application_id');
  const empty = number(database, 'schema_version') === 0;
  if (!empty && application !== APPLICATION_ID)
    throw new MinikeepError('state.not_ours', `${file} is not a database of minikeep`, {
      next: 'Give a folder that minikeep made, or a new one: --home DIR',
    });
  if (version > VERSION)
    throw new MinikeepError(
      'state.newer_version',
      `the database ${file} was written by a newer minikeep (its version ${version}, ours ${VERSION})`,
      {
        next: 'Install that newer minikeep here again; this one leaves the database as it is.',
        details: { version, known_version: VERSION },
      },
    );
}

function checkPages(database: DatabaseSync, file: string): void {
  const found = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})[0];
  if (found === 'ok') return;
  throw new MinikeepError('state.damaged', `the database ${file} is damaged: ${String(found)}`, {
    next: 'Keep a copy of the whole folder, then put it back from a copy made before.',
  });
}

function migrate(database: DatabaseSync): void {
  const version = number(database, 'user_version');
  if (version === VERSION) return;
  database.exec('BEGIN EXCLUSIVE');
  for (const step of MIGRATIONS.slice(version)) database.exec(step);
  database.exec(`PRAGMA user_version = ${VERSION}; PRAGMA application_id = ${APPLICATION_ID}`);
  database.exec('COMMIT');
}
