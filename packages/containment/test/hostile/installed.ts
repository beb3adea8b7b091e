/** minikeep's sandbox installed in a folder of its own, to be run by another user or from a folder of root's only. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { REPOSITORY } from '@minikeep/testkit';
import { build } from 'esbuild';
import { DIST } from './attacked.ts';

const DRIVER_MS_MAX = 60_000;
const HERE = path.join(REPOSITORY, 'packages/containment/test/hostile');

export interface Installed {
  readonly folder: string;
  readonly node: string;
  /** Of the folder, and of the Node program in it. */
  readonly setModes: (folderMode: number, nodeMode: number) => void;
  readonly cleanUp: () => void;
}

export async function install(): Promise<Installed> {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-installed-'));
  const node = path.join(folder, 'node');
  await build({
    entryPoints: [path.join(HERE, 'driver.ts')],
    outfile: path.join(folder, 'driver.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    absWorkingDir: REPOSITORY,
    banner: {
      js: `import { createRequire as __r } from 'node:module'; const require = __r(import.meta.url);`,
    },
    external: ['esbuild'],
    plugins: [
      {
        name: 'koffi-beside-bundle',
        setup(b) {
          b.onResolve({ filter: /^koffi$/ }, () => ({ path: 'koffi', namespace: 'koffi' }));
          b.onLoad({ filter: /.*/, namespace: 'koffi' }, () => ({
            contents: `export default require('./koffi.node');`,
            resolveDir: REPOSITORY,
          }));
          b.onResolve({ filter: /koffi\.node$/ }, () => ({ path: './koffi.node', external: true }));
        },
      },
    ],
  });
  for (const name of ['warden.mjs', 'launcher.mjs', 'koffi.node'])
    copyFileSync(path.join(DIST, name), path.join(folder, name));
  copyFileSync(path.join(HERE, 'attacker.mjs'), path.join(folder, 'attacker.mjs'));
  writeFileSync(path.join(folder, 'model.gguf'), Buffer.alloc(8192, 'GGUF'));
  copyFileSync(process.execPath, node);
  return {
    folder,
    node,
    setModes: (folderMode, nodeMode) => {
      chmodSync(folder, folderMode);
      chmodSync(node, nodeMode);
    },
    cleanUp: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface Around {
  readonly uid?: number;
  /** Runs the driver by this command (setpriv, unshare). */
  readonly by?: readonly string[];
  readonly options?: readonly string[];
}

/**
 * What a container that nobody privileged started is made of: a user of its own namespaces, no capability to gain, no
 * new privileges, and a filter around it. Needs setpriv and unshare (util-linux) and root to begin with.
 */
export const container = (uid: number, more: readonly string[] = []): Around => {
  const user = `setpriv --reuid=${uid} --regid=${uid} --clear-groups --no-new-privs --bounding-set=-all`;
  const spaces = 'unshare --user --map-user=1000 --map-group=1000 --mount --net --ipc --uts';
  return {
    by: [...`${user} ${spaces}`.split(' '), ...more],
    options: ['--deny-pidfd-getfd'],
  };
};

export type Scenario = 'short' | 'hold' | 'serve';

export const driverCommand = (at: Installed, scenario: Scenario, around: Around): string[] => [
  ...(around.by ?? []),
  at.node,
  path.join(at.folder, 'driver.mjs'),
  scenario,
  ...(around.options ?? []),
];

export function startDriver(
  at: Installed,
  scenario: 'short' | 'hold',
  around: Around = {},
): ChildProcess {
  const command = driverCommand(at, scenario, around);
  return spawn(command[0] ?? '', command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '' },
    cwd: '/',
    ...(around.uid === undefined ? {} : { uid: around.uid, gid: around.uid }),
  });
}

/** The driver's one line. */
export async function firstLine(driver: ChildProcess): Promise<Record<string, unknown>> {
  let stderr = '';
  driver.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const timer = setTimeout(() => driver.kill('SIGKILL'), DRIVER_MS_MAX);
  try {
    if (driver.stdout !== null)
      for await (const line of createInterface({ input: driver.stdout }))
        return JSON.parse(line) as Record<string, unknown>;
    throw new Error(`the driver said nothing: ${stderr.slice(-2000)}`);
  } finally {
    clearTimeout(timer);
  }
}
