/**
 * Compares every executable part of this installation with what it should be: an installed bundle with its SHA256SUMS,
 * a checkout with the pins (what the lockfile brings) and with what the build wrote down of itself. Every byte is read:
 * size and times of a file are what an attacker sets. That whoever can change a program can change the list as well is
 * what the archive's digest is for, which came another way.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { pinsOf, thisPlatform } from './pins.ts';
import { PROGRAM_DIGESTS, isOwnProgram } from './program-digests.ts';

export interface ChangedProgram {
  /** Inside the installation, with `/`. */
  readonly file: string;
  /** SHA-256, hex; empty: there should be none. */
  readonly expected: string;
  /** Empty: there is none. */
  readonly found: string;
}

const NODE = 'node/bin/node';
const SUMS = 'SHA256SUMS';
const SUMS_LINE = /^([0-9a-f]{64}) {2}(\S.*)$/;
const READ_BYTES = 2 ** 20;
/** Started, loaded or read as a program. */
const isExecutablePart = (at: string): boolean =>
  at === NODE || at === 'bin/minikeep' || /^dist\/(?:[\w.-]+\.mjs|koffi\.node|lib\/.+)$/.test(at);

/** In the order of their paths. Throws `supply.no_list` when nothing says what it should be. */
export async function changedPrograms(
  distFolder: string,
  nodeFile: string,
  signal: AbortSignal,
): Promise<ChangedProgram[]> {
  const root = path.resolve(distFolder, '..');
  const installed = existsSync(path.join(root, SUMS));
  const expected = installed ? ofBundle(root) : ofCheckout(distFolder);
  const there = parts(distFolder);
  const changed: ChangedProgram[] = [];
  for (const at of [...new Set([...expected.keys(), ...there])].toSorted()) {
    const wanted = expected.get(at) ?? '';
    // The Node that runs: what lies where it should be is of no use if another one was started.
    const file = at === NODE ? nodeFile : path.join(root, relative(at, distFolder));
    const found = existsSync(file) ? await digestOf(file, signal) : '';
    if (found !== wanted) changed.push({ file: at, expected: wanted, found });
  }
  return changed;
}

const relative = (at: string, distFolder: string): string =>
  at.startsWith('dist/') ? path.join(path.basename(distFolder), at.slice('dist/'.length)) : at;

function ofBundle(root: string): Map<string, string> {
  const expected = new Map<string, string>();
  for (const line of readFileSync(path.join(root, SUMS), 'utf8').split('\n')) {
    const [, sha256 = '', at = ''] = SUMS_LINE.exec(line) ?? [];
    if (isExecutablePart(at)) expected.set(at, sha256);
  }
  if (!expected.has(NODE)) throw noList(path.join(root, SUMS));
  return expected;
}

function ofCheckout(distFolder: string): Map<string, string> {
  const file = path.join(distFolder, PROGRAM_DIGESTS);
  const platform = thisPlatform();
  if (platform === undefined || !existsSync(file)) throw noList(file);
  const pinned = pinsOf(platform).files.filter((one) => isExecutablePart(one.path));
  const expected = new Map(pinned.map((one) => [one.path, one.sha256]));
  const built: unknown = JSON.parse(readFileSync(file, 'utf8'));
  for (const [name, sha256] of Object.entries(built ?? {}))
    if (isOwnProgram(name) && typeof sha256 === 'string') expected.set(`dist/${name}`, sha256);
  return expected;
}

/** What would be started or loaded: also what nobody listed, for libraries are found by looking into their folder. */
function parts(distFolder: string): string[] {
  const lib = path.join(distFolder, 'lib');
  return [
    ...readdirSync(distFolder).map((name) => `dist/${name}`),
    ...(existsSync(lib) ? readdirSync(lib).map((name) => `dist/lib/${name}`) : []),
  ].filter(isExecutablePart);
}

async function digestOf(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { signal, highWaterMark: READ_BYTES }))
    hash.update(piece as Buffer);
  return hash.digest('hex');
}

const noList = (file: string): MinikeepError =>
  new MinikeepError('supply.no_list', `${file} does not say what the programs should be`, {
    next: 'In a checkout: npm run build. Installed: install the bundle again.',
  });
