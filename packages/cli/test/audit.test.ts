// The event log is what it was, or it shows: an edit alone, an edit with every later entry made anew, a log put back to
// an older state; and an export that Python and openssl verify without minikeep.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { needCommand, REPOSITORY } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Homes, type RunningNode } from './homes.ts';

const SCRIPT = path.join(REPOSITORY, 'docs/verify-log.py');
const homes = new Homes();
let first: RunningNode;

interface Verified {
  readonly ok: boolean;
  readonly entries: number;
  readonly first_bad: number | null;
  readonly authority_key_sha256: string;
  readonly nodes: { readonly node: string; readonly state: string; readonly number: number }[];
}

const verify = async (): Promise<Verified & { code: number | null }> => {
  const { code, stdout, stderr } = await homes.run('a', 'audit', 'verify', '--json');
  if (stdout === '') throw new Error(stderr);
  return { ...(JSON.parse(stdout) as Verified), code };
};
const states = async (): Promise<string[]> =>
  (await verify()).nodes.map(({ node, state }) => `${node} ${state}`);

beforeAll(async () => {
  first = await homes.startFirst('a', '--node-name', 'mini-1');
  const address = first.last('coordinator')?.address ?? '';
  const token = await homes.token('a');
  await homes.json('b', 'join', address, '--token-file', token, '--name', 'mini-2');
  await homes.start('b');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
});
afterAll(() => homes.close());

/** The chain, made by hand: what somebody would who may write the database. */
function forge(file: string, change: (number: number, data: string) => string): void {
  const database = new DatabaseSync(file);
  const rows = database
    .prepare('SELECT number, at_ms, kind, data FROM events ORDER BY number')
    .all() as unknown as { number: number; at_ms: number; kind: string; data: string }[];
  database.exec('DROP TRIGGER events_unchanged; DROP TRIGGER events_kept');
  let digest = Buffer.alloc(32);
  for (const { number, at_ms, kind, data: before } of rows) {
    const data = change(number, before);
    const hash = createHash('sha256').update('minikeep event 1\n').update(digest);
    for (const field of [String(number), String(at_ms), kind, data])
      hash.update(`${Buffer.byteLength(field)}:`).update(field);
    digest = Buffer.from(hash.digest());
    database
      .prepare('UPDATE events SET data = ?, digest = ? WHERE number = ?')
      .run(data, digest, number);
  }
  database.prepare('UPDATE events_end SET digest = ?').run(digest);
  database.close();
}

async function restarted(between: (database: string) => void): Promise<void> {
  await first.stop();
  between(path.join(homes.home('a'), 'state.db'));
  first = await homes.start('a');
  await homes.untilStates('a', { 'mini-1': 'up', 'mini-2': 'up' });
}

it('every node remembers where it ends, and an export verifies without minikeep', async (ctx) => {
  needCommand(ctx, 'python3', 'python3');
  needCommand(ctx, 'openssl', 'openssl');
  await expect.poll(states, { timeout: 15_000 }).toEqual(['mini-1 agrees', 'mini-2 agrees']);
  const { ok, entries, code, authority_key_sha256: key } = await verify();
  expect([ok, code]).toEqual([true, 0]);
  expect(entries).toBeGreaterThan(3);

  const file = path.join(homes.root, 'log.ndjson');
  await homes.json('a', 'audit', 'export', file);
  expect((await homes.run('a', 'audit', 'export', file, '--json')).code).toBe(2);
  const check = (name: string): string => {
    try {
      return execFileSync('python3', [SCRIPT, name], { encoding: 'utf8', stdio: 'pipe' });
    } catch (error) {
      return (error as { stderr: string }).stderr;
    }
  };
  expect(check(file)).toMatch(/^OK: \d+ entries/);
  expect(check(file)).toContain(key);
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  const changed = path.join(homes.root, 'changed.ndjson');
  const write = (all: string[]): string => {
    writeFileSync(changed, `${all.join('\n')}\n`);
    return check(changed);
  };
  expect(write(lines.map((line) => line.replace('mini-2', 'mini-9')))).toMatch(
    /^BAD: entry \d+ was/,
  );
  expect(write(lines.slice(0, -1))).toMatch(/^BAD: the file was cut/);
  expect(write(lines.toSpliced(-2, 1))).toMatch(/^BAD: the log ends at entry/);
  expect(write(lines.toSpliced(2, 1))).toMatch(/^BAD: entry 2 is missing/);
  expect(
    write(
      lines.map((line, i) =>
        i > 0 && i === lines.length - 1 ? line.replace('"era":0', '"era":1') : line,
      ),
    ),
  ).toMatch(/^BAD: the end is not signed/);
});

it('an entry that was changed is named; so is a log of which all was made anew', async () => {
  const copy = path.join(homes.root, 'before.db');
  await restarted((database) => {
    copyFileSync(database, copy);
    forge(database, (number, data) => (number === 2 ? data.replace('mini-1', 'mini-7') : data));
  });
  // The chain by itself is whole: only the nodes know better.
  await expect
    .poll(
      async () => {
        const { code, first_bad, nodes } = await verify();
        return [code, first_bad, ...nodes.map(({ state }) => state)];
      },
      { timeout: 15_000 },
    )
    .toEqual([3, null, 'differs', 'differs']);
  const seal = () =>
    homes.json<{ sealed: string; reasons: { what: string }[] }>('a', 'seal', 'status');
  // The nodes are told of the log's end every two seconds.
  await expect.poll(async () => (await seal()).sealed, { timeout: 15_000 }).toBe('degraded');
  expect((await seal()).reasons[0]?.what).toMatch(/event log is not as it remembers/);

  // Put back, as it was before the last entries.
  await restarted((database) => copyFileSync(copy, database));
  await expect.poll(async () => (await verify()).code, { timeout: 15_000 }).toBe(3);

  await first.stop();
  const database = new DatabaseSync(path.join(homes.home('a'), 'state.db'));
  database.exec(`DROP TRIGGER events_unchanged; UPDATE events SET data = '{}' WHERE number = 1`);
  database.close();
  const stopped = await verify();
  expect([stopped.code, stopped.first_bad, stopped.nodes]).toEqual([3, 1, []]);
});
