// The database of a home: transactions, versions, damage, a full disk, and the chained event log.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { EVENT_DATA_BYTES_MAX, Home, OPEN_VERIFY_EVENTS, State } from '@minikeep/state';
import { MinikeepError } from '@minikeep/protocol';
import { needCommand, needRoot, onlyOn } from '@minikeep/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

let folder: string;
let file: string;
let home: Home;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-state-'));
  file = path.join(folder, 'state.db');
  home = Home.open(folder);
});
afterEach(() => {
  home.close();
  rmSync(folder, { recursive: true, force: true });
});

const open = (): State => State.open(home, () => 1_000);

function failure(work: () => unknown): MinikeepError {
  try {
    work();
  } catch (error) {
    if (error instanceof MinikeepError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

function addModel(state: State, name: string): void {
  state.write(({ database, event }) => {
    database
      .prepare('INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)')
      .run(name, new Uint8Array(32), '/m', 1, 'llama', 0);
    event('model.imported', { name });
  });
}

/** Changes the closed database as somebody without our code would. */
function tamper(sql: string): void {
  const database = new DatabaseSync(file);
  database.exec(
    `DROP TRIGGER IF EXISTS events_unchanged; DROP TRIGGER IF EXISTS events_kept; ${sql}`,
  );
  database.close();
}

function withEvents(count: number): void {
  const state = open();
  state.write(({ event }) => {
    for (let i = 1; i <= count; i++) event('test.event', { i });
  });
  state.close();
}

describe('the database', () => {
  it('keeps a transaction, or nothing of it', () => {
    let state = open();
    addModel(state, 'a');
    expect(() =>
      state.write(({ database, event }) => {
        event('test.event', {});
        database.exec("UPDATE models SET name = 'b'");
        throw new Error('changed my mind');
      }),
    ).toThrow('changed my mind');
    state.close();
    state = open();
    expect(state.read((d) => d.prepare('SELECT name FROM models').all())).toEqual([{ name: 'a' }]);
    expect(state.verifyAllEvents()).toBe(1);
    state.close();
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('is written through, strict, and with foreign keys', () => {
    const state = open();
    const pragma = (name: string): unknown =>
      state.read((d) => Object.values(d.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
    expect(pragma('journal_mode')).toBe('wal');
    expect(pragma('synchronous')).toBe(2);
    expect(pragma('foreign_keys')).toBe(1);
    const tables = state.read((d) => d.prepare('PRAGMA table_list').all()) as {
      name: string;
      strict: number;
    }[];
    const own = tables.filter(({ name }) => !name.startsWith('sqlite_'));
    expect(own.length).toBe(10);
    expect(own.filter(({ strict }) => strict !== 1)).toEqual([]);
    const insert = (sql: string) => () => state.write(({ database }) => database.exec(sql));
    expect(insert("INSERT INTO deployments VALUES ('d', 'none', 1, 'up', '{}')")).toThrow(
      'FOREIGN KEY',
    );
    expect(insert("INSERT INTO models VALUES ('m', zeroblob(31), '/m', 1, 'llama', 0)")).toThrow(
      'CHECK',
    );
    expect(
      insert("INSERT INTO tokens VALUES ('0123456789abcdef', zeroblob(32), 1, 2, 3, NULL, NULL)"),
    ).toThrow('CHECK');
    state.close();
  });

  it('does not change while it is read', () => {
    const state = open();
    state.read((d) => d.exec("INSERT INTO models VALUES ('m', zeroblob(32), '/m', 1, 'llama', 0)"));
    expect(state.read((d) => d.prepare('SELECT * FROM models').all())).toEqual([]);
    state.close();
  });

  it('of a newer minikeep is left as it is', () => {
    open().close();
    const database = new DatabaseSync(file);
    database.exec('PRAGMA user_version = 99');
    database.close();
    const before = readFileSync(file);
    const error = failure(open);
    expect(error.code).toBe('state.newer_version');
    expect(error.next).toContain('newer minikeep');
    expect(readFileSync(file)).toEqual(before);
  });

  it('of another program is refused', () => {
    const database = new DatabaseSync(file);
    database.exec('CREATE TABLE theirs (a)');
    database.close();
    expect(failure(open).code).toBe('state.not_ours');
  });

  it('that another program holds is refused', () => {
    open().close();
    const other = new DatabaseSync(file);
    other.exec('BEGIN EXCLUSIVE');
    expect(failure(open).code).toBe('state.in_use');
    other.close();
  });

  it('is a file', () => {
    mkdirSync(file);
    expect(failure(open).code).toBe('state.not_a_file');
  });

  it('that is damaged is reported: no database, cut short, pages overwritten', () => {
    withEvents(2_000);
    const size = statSync(file).size;
    expect(size).toBeGreaterThan(100_000);
    const good = path.join(folder, 'good');
    copyFileSync(file, good);
    const damaged = (how: () => void): string => {
      copyFileSync(good, file);
      how();
      return failure(open).code;
    };
    expect(damaged(() => writeFileSync(file, 'x'.repeat(size)))).toBe('state.damaged');
    expect(damaged(() => truncateSync(file, size / 2))).toBe('state.damaged');
    expect(
      damaged(() => {
        const bytes = readFileSync(good).fill(0xff, 40_000, 60_000);
        writeFileSync(file, bytes);
      }),
    ).toBe('state.damaged');
    copyFileSync(good, file);
    open().close();
  });

  it('on a full disk says so, loses nothing, and goes on when there is room', (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    needCommand(ctx, 'mount', 'mount');
    const small = path.join(folder, 'small');
    mkdirSync(small);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k,mode=0700', 'none', small]);
    if (mounted.status !== 0) ctx.skip('not here: a file system can not be mounted');
    try {
      const there = Home.open(small);
      const state = State.open(there, () => 1);
      there.writeKey('key.pem', 'first');
      const filler = path.join(small, 'filler');
      let acknowledged = 0;
      const error = failure(() => {
        for (;;) {
          state.write(({ event }) => event('test.event', { text: 'x'.repeat(8_000) }));
          acknowledged += 1;
        }
      });
      expect(error.code).toBe('state.disk_full');
      expect(acknowledged).toBeGreaterThan(3);
      expect(() => writeFileSync(filler, Buffer.alloc(512 * 1024))).toThrow('ENOSPC');
      expect(failure(() => there.writeKey('key.pem', 'y'.repeat(8_000))).code).toBe(
        'system.disk_full',
      );
      expect(there.readKey('key.pem')).toBe('first');
      rmSync(filler);
      expect(spawnSync('mount', ['-o', 'remount,size=8m', small]).status).toBe(0);
      expect(state.verifyAllEvents()).toBe(acknowledged);
      state.write(({ event }) => event('test.event', {}));
      state.close();
      const again = State.open(there, () => 1);
      expect(again.verifyAllEvents()).toBe(acknowledged + 1);
      again.close();
      there.close();
    } finally {
      spawnSync('umount', ['-l', small]);
    }
  });
});

describe('the event log', () => {
  it('numbers its entries and gives them back', () => {
    const state = open();
    expect(state.write(({ event }) => event('node.joined', { node: 'a' }))).toBe(1);
    expect(state.write(({ event }) => event('node.removed', { node: 'a' }))).toBe(2);
    expect(state.events(2, 10)).toMatchObject([
      { number: 2, atMs: 1_000, kind: 'node.removed', data: { node: 'a' } },
    ]);
    state.close();
  });

  it('takes no bad kind and no large data, and the transaction is undone', () => {
    const state = open();
    const bad = (kind: string, data: Record<string, unknown>) =>
      failure(() => state.write(({ event }) => event(kind, data))).code;
    expect(bad('Joined', {})).toBe('events.kind_invalid');
    expect(bad('node.joined', { x: 'y'.repeat(EVENT_DATA_BYTES_MAX) })).toBe('events.too_large');
    expect(state.verifyAllEvents()).toBe(0);
    state.close();
  });

  it('is append-only for our own code too', () => {
    withEvents(2);
    const state = open();
    for (const sql of ["UPDATE events SET data = '{}'", 'DELETE FROM events'])
      expect(() => state.write(({ database }) => database.exec(sql))).toThrow('append-only');
    state.close();
  });

  it.each([
    ['a changed entry', `UPDATE events SET data = '{"i":9}' WHERE number = 3`, 3],
    ['a changed time', 'UPDATE events SET at_ms = 5 WHERE number = 2', 2],
    ['a missing entry', 'DELETE FROM events WHERE number = 4', 4],
    ['a missing beginning', 'DELETE FROM events WHERE number <= 2', 1],
    ['a missing end', 'DELETE FROM events WHERE number >= 5', 5],
    ['nothing left', 'DELETE FROM events', 1],
    [
      'an entry after the end',
      `INSERT INTO events SELECT 7, at_ms, kind, data, digest FROM events WHERE number = 6`,
      7,
    ],
    ['another end', 'UPDATE events_end SET digest = zeroblob(32)', 6],
    ['no end', 'DELETE FROM events_end', 1],
  ])('is not opened with %s, and the first bad entry is named', (_, sql, entry) => {
    withEvents(6);
    tamper(sql);
    const error = failure(open);
    expect(error.code).toBe('events.broken');
    expect(error.details['entry']).toBe(entry);
  });

  it('is verified in bounded time when opened, and in whole when asked', () => {
    withEvents(OPEN_VERIFY_EVENTS + 100);
    tamper(`UPDATE events SET data = '{}' WHERE number = 50`);
    const state = open();
    expect(failure(() => state.verifyAllEvents()).details['entry']).toBe(50);
    state.close();
    tamper('UPDATE events SET at_ms = 2 WHERE number = 150');
    expect(failure(open).details['entry']).toBe(150);
  });
});
