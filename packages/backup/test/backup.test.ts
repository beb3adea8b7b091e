/** A backup is read back only whole, with its passphrase, and never writes where it has no business. */
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { initCluster } from '@minikeep/coordinator/membership';
import { MinikeepError } from '@minikeep/protocol';
import { Home, State, readCluster, readSettings } from '@minikeep/state';
import { openModel } from '@minikeep/gguf';
import { ModelLibrary, libraryFolder } from '@minikeep/models';
import { REPOSITORY } from '@minikeep/testkit';
import { Encrypter } from 'age-encryption';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { passphraseOf, restoreBackup, writeBackup } from '../src/index.ts';

const PASSPHRASE = 'correct horse battery staple';
const NOW = Date.UTC(2026, 10, 23);
/** Cheap: most of this is about what is inside. */
const workFactor = 10;
const { signal } = new AbortController();
let folder = '';
let home = '';
let file = '';
let count = 0;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-backup-'));
  home = path.join(folder, 'home');
  await initCluster(
    home,
    {
      name: 'law',
      node: 'mini-1',
      listen: '127.0.0.1:7420',
      enrolmentListen: '127.0.0.1:7421',
      agentListen: '127.0.0.1:7422',
      apiListen: '127.0.0.1:7423',
      coordinatorAddresses: ['127.0.0.1:7420'],
      certificateSeconds: 3600,
    },
    () => NOW,
  );
  file = await made('good');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => void (count += 1));

async function made(name: string): Promise<string> {
  const database = path.join(folder, `${name}.db`);
  const opened = Home.open(home);
  const state = State.open(opened, () => NOW);
  await state.snapshot(database);
  state.close();
  opened.close();
  const target = path.join(folder, name);
  const options = { home, database, file: target, passphrase: PASSPHRASE, version: '0', now: NOW };
  await writeBackup({ ...options, workFactor, signal });
  return target;
}

const restored = (from: string, passphrase = PASSPHRASE, to = path.join(folder, `to-${count}`)) =>
  restoreBackup({ file: from, passphrase, home: to, settings: (s) => s, now: () => NOW, signal });

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof MinikeepError ? error.code : String(error);
};

it('brings the authority, the settings and the log back, and says so in the log', async () => {
  const { manifest, settings } = await restored(file);
  expect([manifest.cluster_name, manifest.made, settings.node]).toEqual([
    'law',
    '2026-11-23T00:00:00.000Z',
    'mini-1',
  ]);
  const to = path.join(folder, `to-${count}`);
  for (const name of ['authority-key.pem', 'node-key.pem'])
    expect(readFileSync(path.join(to, name))).toEqual(readFileSync(path.join(home, name)));
  expect([
    statSync(to).mode & 0o777,
    statSync(path.join(to, 'authority-key.pem')).mode & 0o777,
  ]).toEqual([0o700, 0o600]);
  const opened = Home.open(to);
  const state = State.open(opened, () => NOW);
  const kinds = state.events(1, 100).map(({ kind }) => kind);
  expect(kinds).toEqual(['cluster.created', 'node.joined', 'cluster.restored']);
  expect(state.read(readCluster)?.revocationEpoch).toBeGreaterThanOrEqual(1_000_000);
  state.close();
  opened.close();
  expect(await codeOf(restored(file))).toBe('cluster.exists');
});

it('is opened by its passphrase alone, and by nobody who guesses short ones', async () => {
  expect(readFileSync(file).includes('PRIVATE KEY')).toBe(false);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(await codeOf(restored(file, 'another passphrase'))).toBe('backup.passphrase_wrong');
  expect(() => passphraseOf('short\n')).toThrow(
    expect.objectContaining({ code: 'backup.passphrase_short' }),
  );
  expect(passphraseOf('long enough for it\r\n')).toBe('long enough for it');
});

it('is never overwritten', async () => {
  expect(await codeOf(made('good2').then(() => writeAgain('good2')))).toBe('backup.exists');
});
const writeAgain = (name: string) =>
  writeBackup({
    home,
    database: path.join(folder, `${name}.db`),
    file: path.join(folder, name),
    passphrase: PASSPHRASE,
    workFactor,
    version: '0',
    now: NOW,
    signal,
  });

it('that is cut, changed or something else is refused, and leaves nothing', async () => {
  const bytes = readFileSync(file);
  const authenticated = bytes.indexOf('\n--- ') + 5;
  const costly = bytes.toString('latin1').replace(/^(.*\n-> scrypt \S+) \d+\n/, '$1 30\n');
  const cases: [string, Buffer][] = [
    ['backup.not_one', Buffer.from('a letter')],
    ['backup.damaged', Buffer.from(bytes).fill('AAAA', authenticated, authenticated + 4)],
    // Opening it would take a terabyte of memory.
    ['backup.damaged', Buffer.from(costly, 'latin1')],
    ['backup.damaged', bytes.subarray(0, bytes.length - 70_000)],
    ['backup.damaged', Buffer.concat([bytes, Buffer.alloc(10)])],
    ['backup.damaged', Buffer.from(bytes).fill(1, bytes.length - 200, bytes.length - 190)],
  ];
  for (const [i, [code, content]] of cases.entries()) {
    const bad = path.join(folder, `bad-${i}`);
    writeFileSync(bad, content);
    const to = path.join(folder, `bad-to-${i}`);
    expect([i, await codeOf(restored(bad, PASSPHRASE, to))]).toEqual([i, code]);
    expect(statSync(to, { throwIfNoEntry: false })).toBeUndefined();
    expect(readdirSync(folder).filter((name) => name.includes('restoring'))).toEqual([]);
  }
  expect(await codeOf(restored(path.join(folder, 'nowhere')))).toBe('backup.unreadable');
});

it('that somebody made who knows the passphrase writes nothing outside the home', async () => {
  const manifest = {
    format: 1,
    minikeep_version: '0',
    cluster_id: 'law-1',
    cluster_name: 'law',
    node: 'mini-1',
    made: '2026-11-23T00:00:00.000Z',
    sizes: {},
  };
  const names = [
    '../escaped',
    '/tmp/escaped',
    'node.json/../../x',
    'bin/minikeep',
    'lock',
    'node.json',
  ];
  for (const [i, name] of names.entries()) {
    const archive = pack();
    archive.entry({ name: 'backup.json' }, JSON.stringify(manifest));
    archive.entry({ name }, 'x');
    if (name === 'node.json') archive.entry({ name }, 'twice');
    archive.finalize();
    const parts: Buffer[] = [];
    for await (const part of archive) parts.push(part as Buffer);
    const encrypter = new Encrypter();
    encrypter.setScryptWorkFactor(workFactor);
    encrypter.setPassphrase(PASSPHRASE);
    const forged = path.join(folder, `forged-${i}`);
    writeFileSync(forged, await encrypter.encrypt(Buffer.concat(parts)));
    expect([name, await codeOf(restored(forged))]).toEqual([name, 'backup.damaged']);
    expect(statSync(path.join(folder, 'escaped'), { throwIfNoEntry: false })).toBeUndefined();
  }
});

it('goes into a new or an empty folder only', async () => {
  const to = path.join(folder, 'taken');
  mkdirSync(to, { mode: 0o700 });
  writeFileSync(path.join(to, 'letter.txt'), 'mine');
  expect(await codeOf(restored(file, PASSPHRASE, to))).toBe('home.not_empty');
  rmSync(path.join(to, 'letter.txt'));
  await restored(file, PASSPHRASE, to);
  expect(readSettings(to)?.cluster_name).toBe('law');
});

it('of a model keeps what was noted and the header in its size, not the weights', async () => {
  const model = await openModel(path.join(REPOSITORY, 'models/keeper.gguf'));
  const digest = 'a'.repeat(64);
  const place = path.join('library/models', digest);
  await new ModelLibrary(libraryFolder(home)).keepHeader(model, digest);
  writeFileSync(path.join(home, place, 'pieces'), 'pieces');
  const again = await made('with-model');
  expect(statSync(again).size).toBeLessThan(statSync(model.path).size / 4);
  await restored(again);
  const kept = path.join(folder, `to-${count}`, place);
  expect(readFileSync(path.join(kept, 'pieces'), 'utf8')).toBe('pieces');
  const header = await openModel(path.join(kept, 'header/model.gguf'));
  expect(header.sizeBytes).toBe(model.sizeBytes);
  expect([...header.tensors.keys()]).toEqual([...model.tensors.keys()]);
});
