/**
 * The event log: append-only, each entry's SHA-256 covers the entry before it. Whoever changes, removes, swaps or
 * inserts an entry has to make all later ones anew, and is found by anybody who remembers one later digest.
 */
import { createHash } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { MinikeepError } from '@minikeep/protocol';
import { EVENT_DATA_BYTES_MAX, EVENT_PAGE } from './limits.ts';

export interface Event {
  /** 1, 2, 3 … without a gap. */
  readonly number: number;
  /** Milliseconds since 1970, by the writer's clock: only the numbers say what came first. */
  readonly atMs: number;
  /** `area.what`, for example `node.joined`. */
  readonly kind: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** 32 bytes. */
  readonly digest: Uint8Array;
}

const KIND = /^[a-z][a-z_]*\.[a-z][a-z_]*$/;
const KIND_LENGTH_MAX = 63;
const BEGINNING = new Uint8Array(32);

interface Row {
  readonly number: number;
  readonly at_ms: number;
  readonly kind: string;
  readonly data: string;
  readonly digest: Uint8Array;
}

/** Each field has its length before it, so that no two entries give the same bytes. */
function digestOf(previous: Uint8Array, row: Omit<Row, 'digest'>): Uint8Array {
  const hash = createHash('sha256').update('minikeep event 1\n').update(previous);
  for (const field of [String(row.number), String(row.at_ms), row.kind, row.data])
    hash.update(`${Buffer.byteLength(field)}:`).update(field);
  return hash.digest();
}

/** Appends within the caller's transaction. Throws `events.kind_invalid`, `events.too_large`. */
export function appendEvent(
  database: DatabaseSync,
  atMs: number,
  kind: string,
  data: Readonly<Record<string, unknown>>,
): number {
  if (!KIND.test(kind) || kind.length > KIND_LENGTH_MAX)
    throw new MinikeepError('events.kind_invalid', `"${kind.slice(0, 80)}" is no kind of event`, {
      next: 'Use two words in lower-case letters: area.what',
    });
  const text = JSON.stringify(data);
  if (Buffer.byteLength(text) > EVENT_DATA_BYTES_MAX)
    throw new MinikeepError(
      'events.too_large',
      `the data of a ${kind} event is larger than ${EVENT_DATA_BYTES_MAX / 1024} KiB`,
      { next: 'Put less into the event.' },
    );
  const end = endOf(database);
  const row = { number: end.number + 1, at_ms: atMs, kind, data: text };
  const digest = digestOf(end.digest, row);
  database
    .prepare('INSERT INTO events (number, at_ms, kind, data, digest) VALUES (?, ?, ?, ?, ?)')
    .run(row.number, atMs, kind, text, digest);
  database
    .prepare('UPDATE events_end SET number = ?, digest = ? WHERE only_row = 1')
    .run(row.number, digest);
  return row.number;
}

/** Where the chain ends: 0 and 32 zero bytes while there is no entry. */
export function endOf(database: DatabaseSync): { number: number; digest: Uint8Array } {
  const end = database
    .prepare('SELECT number, digest FROM events_end WHERE only_row = 1')
    .get() as unknown as { number: number; digest: Uint8Array } | undefined;
  if (end === undefined) throw broken(1, 'the record of where the log ends is missing');
  return end;
}

/** Entries from number `from` on, oldest first, at most `count` (and at most a page). */
export function listEvents(database: DatabaseSync, from: number, count: number): Event[] {
  return page(database, from, Math.min(count, EVENT_PAGE)).map(({ at_ms, data, ...row }) => ({
    ...row,
    atMs: at_ms,
    data: JSON.parse(data) as Record<string, unknown>,
  }));
}

/** The newest entries of one kind, oldest first. */
export function latestOfKind(database: DatabaseSync, kind: string, count: number): Event[] {
  const rows = database
    .prepare(
      'SELECT number, at_ms, kind, data, digest FROM events WHERE kind = ? ORDER BY number DESC LIMIT ?',
    )
    .all(kind, count) as unknown as Row[];
  return rows.toReversed().map(({ at_ms, data, ...row }) => ({
    ...row,
    atMs: at_ms,
    data: JSON.parse(data) as Record<string, unknown>,
  }));
}

export interface RawEvent {
  readonly number: number;
  readonly atMs: number;
  readonly kind: string;
  /** JSON, as it stands there. */
  readonly text: string;
  readonly digest: Uint8Array;
}

export function rawEvents(database: DatabaseSync, from: number, count: number): RawEvent[] {
  return page(database, from, Math.min(count, EVENT_PAGE)).map(({ at_ms, data, ...row }) => ({
    ...row,
    atMs: at_ms,
    text: data,
  }));
}

/** How often the cluster was restored from a backup: each time the log goes on from an older state. */
export function eraOf(database: DatabaseSync): number {
  const row = database
    .prepare("SELECT count(*) AS count FROM events WHERE kind = 'cluster.restored'")
    .get() as unknown as { count: number };
  return row.count;
}

/** Of an era before this one a node may remember what the backup did not have. */
export function differsFrom(
  database: DatabaseSync,
  head: { readonly era: number; readonly number: number; readonly digest: Uint8Array },
): string {
  const era = eraOf(database);
  if (head.era < era) return '';
  const end = endOf(database);
  if (head.era > era || head.number > end.number)
    return `it ends at entry ${end.number}, and a node remembers entry ${head.number}`;
  const [row] = page(database, head.number, 1);
  return row !== undefined && row.number === head.number && equal(row.digest, head.digest)
    ? ''
    : `entry ${head.number} is another one than a node remembers`;
}

function page(database: DatabaseSync, from: number, count: number): Row[] {
  return database
    .prepare(
      'SELECT number, at_ms, kind, data, digest FROM events WHERE number >= ? ORDER BY number LIMIT ?',
    )
    .all(from, count) as unknown as Row[];
}

/**
 * Verifies the newest `count` entries (all: Infinity) and the end of the chain; returns how many were verified.
 * Throws `events.broken` with the number of the first bad one.
 */
export function verifyEvents(database: DatabaseSync, count: number): number {
  const end = endOf(database);
  const first = Math.max(1, end.number - count + 1);
  let previous: Uint8Array = BEGINNING;
  if (first > 1) {
    const [before] = page(database, first - 1, 1);
    if (before?.number !== first - 1) throw broken(first - 1, 'it is missing');
    previous = before.digest;
  }
  let expected = first;
  for (let rows = page(database, first, EVENT_PAGE); rows.length > 0;) {
    for (const row of rows) {
      if (expected > end.number)
        throw broken(expected, 'it comes after the recorded end of the log');
      if (row.number !== expected) throw broken(expected, 'it is missing');
      if (!equal(digestOf(previous, row), row.digest))
        throw broken(expected, 'its digest does not fit what stands there');
      previous = row.digest;
      expected += 1;
    }
    rows = page(database, expected, EVENT_PAGE);
  }
  if (expected !== end.number + 1) throw broken(expected, 'it is missing');
  if (!equal(previous, end.digest))
    throw broken(end.number, 'it is not the one that the record of the end names');
  return expected - first;
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

function broken(number: number, why: string): MinikeepError {
  return new MinikeepError('events.broken', `the event log is broken at entry ${number}: ${why}`, {
    next: 'Keep a copy of the home as evidence; put it back from a copy made before.',
    details: { entry: number },
  });
}
