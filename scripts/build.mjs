// Bundles each of minikeep's processes into one file under dist/, beside the native libraries they load.
// One file a process: the sandbox's list of readable files is then short and exact. Only the command line, which
// no sandbox holds, is in pieces: a piece is read when a command needs it, and help comes at once.
import { build } from 'esbuild';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { writeProgramDigests } from '../packages/bundle/src/program-digests.ts';
import { BUNDLE_OPTIONS } from './bundle-options.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const DIST = path.join(ROOT, 'dist');

const COMMAND_LINE = { minikeep: 'packages/cli/src/main.ts' };
/** Process name → its main. */
const PROCESSES = {
  agent: 'packages/agent/src/main.ts',
  coordinator: 'packages/coordinator/src/main.ts',
  engine: 'packages/engine/src/main.ts',
  warden: 'packages/containment/src/linux/warden-main.ts',
  seatbelt: 'packages/containment/src/darwin/seatbelt-main.ts',
  launcher: 'packages/containment/src/linux/launcher-main.ts',
  canary: 'packages/containment/src/canary/main.ts',
  guard: 'packages/containment/src/linux/guard/guard-main.ts',
  sealer: 'packages/sealer/src/main.ts',
};

const platform = `${process.platform}-${process.arch}`;

/** Where the two native parts lie in the installed packages (neither exports its package.json, so by folder). */
function nativeFiles() {
  const modules = path.join(ROOT, 'packages/engine/node_modules');
  const koffi = path.join(
    realpathSync(path.join(modules, 'koffi')),
    '../@koromix',
    `koffi-${platform}`,
    `${process.platform}_${process.arch}`,
    'koffi.node',
  );
  const pack = { 'linux-x64': 'linux-x64', 'darwin-arm64': 'mac-arm64-metal' }[platform];
  return { koffi, libs: path.join(modules, '@node-llama-cpp', pack, 'bins', pack) };
}

const started = performance.now();
const startedAt = new Date();
rmSync(path.join(DIST, '.built'), { force: true });
mkdirSync(path.join(DIST, 'lib'), { recursive: true });
const options = { ...BUNDLE_OPTIONS, outdir: DIST };
// Pieces have names that follow from what is in them; those of the last build would stay for ever.
for (const name of readdirSync(DIST))
  if (/^minikeep-.*\.mjs$/.test(name)) rmSync(path.join(DIST, name));
const builds = await Promise.all([
  build({ ...options, entryPoints: PROCESSES }),
  build({
    ...options,
    entryPoints: COMMAND_LINE,
    splitting: true,
    chunkNames: 'minikeep-[name]-[hash]',
  }),
]);
const programs = Object.keys({ ...COMMAND_LINE, ...PROCESSES });
const { koffi, libs } = nativeFiles();
/** Replaces a file by a new one, so that a running process keeps the one it has mapped. */
function place(from, to, mode) {
  rmSync(to, { force: true });
  copyFileSync(from, to);
  chmodSync(to, mode);
}
place(koffi, path.join(DIST, 'koffi.node'), 0o755);
for (const name of readdirSync(libs))
  if (/^lib.*\.(so|dylib)$|\.metal(lib)?$/.test(name) && !name.startsWith('libllama-common'))
    place(path.join(libs, name), path.join(DIST, 'lib', name), 0o755);
// What a bundle for other machines needs beside the programs: its installer and its starter.
for (const name of ['install.sh', 'minikeep.sh'])
  place(path.join(ROOT, 'packages/bundle', name), path.join(DIST, name), 0o755);
for (const name of programs) chmodSync(path.join(DIST, `${name}.mjs`), 0o755);
// What was bundled, for THIRD-PARTY-NOTICES: folders of packages that are not ours.
const folders = builds
  .flatMap(({ metafile }) => Object.keys(metafile.inputs))
  .map((file) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]);
const bundled = [...new Set(folders.filter(Boolean))].sort();
writeFileSync(path.join(DIST, 'bundled.json'), `${JSON.stringify(bundled, null, 2)}\n`);
// The same for a bill of materials: names, versions, and the digests of the lockfile.
const lock = parse(readFileSync(path.join(ROOT, 'pnpm-lock.yaml'), 'utf8'));
const components = [
  ...bundled,
  realpathSync(path.join(ROOT, 'packages/engine/node_modules/koffi')),
].map((folder) => {
  const { name, version, license } = JSON.parse(
    readFileSync(path.resolve(ROOT, folder, 'package.json'), 'utf8'),
  );
  const { integrity } = lock.packages[`${name}@${version}`].resolution;
  return { name, version, licence: license, integrity };
});
writeFileSync(path.join(DIST, 'components.json'), `${JSON.stringify(components, null, 2)}\n`);
// What a start compares them with.
writeProgramDigests(DIST);
// The stamp has the time at which the sources were read: a file saved meanwhile makes it old.
writeFileSync(path.join(DIST, '.built'), `${startedAt.toISOString()}\n`);
utimesSync(path.join(DIST, '.built'), startedAt, startedAt);
process.stderr.write(
  `minikeep: built ${programs.length} programs in ${((performance.now() - started) / 1000).toFixed(1)} s\n`,
);
