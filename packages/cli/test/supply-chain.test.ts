/** One byte of any executable part is changed: it is refused by name, with both digests, until somebody accepts it. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { changedPrograms, pinsOf, thisPlatform } from '@minikeep/bundle';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIST } from './cluster-helpers.ts';
import { Homes } from './homes.ts';
import { jsonError, minikeep } from './minikeep.ts';

const homes = new Homes();
const root = mkdtempSync(path.join(tmpdir(), 'minikeep-supply-'));
const node = path.join(root, 'node/bin/node');
const installed = [node, path.join(root, 'dist/minikeep.mjs')];
const never = new AbortController().signal;
const digest = (file: string): string =>
  createHash('sha256').update(readFileSync(file)).digest('hex');

/** Never through a link into this checkout. */
function place(from: string, to: string): void {
  mkdirSync(path.dirname(to), { recursive: true });
  rmSync(to, { force: true });
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}
function change(file: string): void {
  const content = readFileSync(file);
  rmSync(file);
  const last = content.length - 1;
  content[last] = (content[last] ?? 0) ^ 1;
  writeFileSync(file, content, { mode: 0o755 });
}

/** As install.sh leaves it: programs, libraries, Node, and the list of a bundle. */
beforeAll(() => {
  const files = readdirSync(DIST, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.mjs$|^koffi\.node$|^lib\/.|^components\.json$/.test(name))
    .map((name) => `dist/${name}`);
  for (const at of files) place(path.join(DIST, '..', at), path.join(root, at));
  place(process.execPath, node);
  const keeper = 'models/keeper.gguf';
  place(path.join(DIST, '..', keeper), path.join(root, keeper));
  const sums = [...files, 'node/bin/node', keeper].map(
    (at) => `${digest(path.join(root, at))}  ${at}\n`,
  );
  writeFileSync(path.join(root, 'SHA256SUMS'), sums.join(''));
});
afterAll(async () => {
  await homes.close();
  rmSync(root, { recursive: true, force: true });
});

const lib = readdirSync(path.join(DIST, 'lib'))[0] ?? '';
const piece = readdirSync(DIST).find((name) => name.startsWith('minikeep-')) ?? '';

describe('of an installed bundle', () => {
  it('one byte of each kind of part is seen, and told with both digests', async () => {
    const kinds = [
      `dist/${piece}`,
      `dist/lib/${lib}`,
      ...['agent', 'coordinator', 'engine', 'warden'].map((name) => `dist/${name}.mjs`),
      'dist/koffi.node',
      'node/bin/node',
    ].toSorted();
    const changed = kinds.map((at) => {
      const file = path.join(root, at);
      const expected = digest(file);
      linkSync(file, `${file}.kept`);
      change(file);
      return { file: at, expected, found: digest(file) };
    });
    const seen = await changedPrograms(path.join(root, 'dist'), node, never);
    for (const at of kinds) {
      const file = path.join(root, at);
      place(`${file}.kept`, file);
      rmSync(`${file}.kept`);
    }
    // What was kept lies among the libraries, where nothing may that is not listed.
    expect(seen.filter(({ file }) => !file.endsWith('.kept'))).toEqual(changed);
    expect(await changedPrograms(path.join(root, 'dist'), node, never)).toEqual([]);
  });

  it('one that is missing is seen, and a library that nobody listed', async () => {
    const gone = path.join(root, 'dist/canary.mjs');
    const expected = digest(gone);
    rmSync(gone);
    const added = path.join(root, 'dist/lib/libggml-cpu-zz.so');
    writeFileSync(added, 'x');
    expect(await changedPrograms(path.join(root, 'dist'), node, never)).toEqual([
      { file: 'dist/canary.mjs', expected, found: '' },
      { file: 'dist/lib/libggml-cpu-zz.so', expected: '', found: digest(added) },
    ]);
    rmSync(added);
    place(path.join(DIST, 'canary.mjs'), gone);
  });

  it('start and run refuse, and go on only with --accept-changed, which is recorded', async () => {
    const engine = path.join(root, 'dist/engine.mjs');
    const expected = digest(engine);
    const content = readFileSync(engine);
    rmSync(engine);
    writeFileSync(engine, content, { mode: 0o755 });
    appendFileSync(engine, '\n// changed\n');
    const found = digest(engine);
    await homes.json('a', 'init', '--name', 'lab', '--listen', '127.0.0.1:0');
    const refused = await homes.runBy(installed, 'a', 'start', '--json');
    expect(refused.code).toBe(3);
    expect(jsonError(refused)).toMatchObject({
      code: 'supply.changed',
      message: `dist/engine.mjs has SHA-256 ${found}, not ${expected}`,
    });
    const run = await minikeep(['run', 'What is a stage?', '--json'], { program: installed });
    expect([run.code, jsonError(run).code]).toEqual([3, 'supply.changed']);
    await homes.startBy(installed, 'a', '--accept-changed');
    const { stdout } = await homes.run('a', 'events', '--json');
    const recorded = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; data: unknown })
      .filter(({ kind }) => kind === 'supply.accepted_changed');
    expect(recorded.map(({ data }) => data)).toEqual([
      { count: 1, files: [{ file: 'dist/engine.mjs', expected, found }] },
    ]);
  });
});

it('in a checkout, Node, koffi and llama.cpp are those of the lockfile, and programs those of the build', async () => {
  expect(await changedPrograms(DIST, process.execPath, never)).toEqual([]);
  const platform = thisPlatform();
  const pinned = platform === undefined ? [] : pinsOf(platform).files;
  const sha256 = pinned.find((file) => file.path === 'node/bin/node')?.sha256;
  expect(sha256).toBe(digest(process.execPath));
});
