// THIRD-PARTY-NOTICES names exactly what dist/ carries by others: read from the bundles themselves, not from a list.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { expect, it } from 'vitest';

const DIST = path.join(REPOSITORY, 'dist');
const text = readFileSync(path.join(REPOSITORY, 'THIRD-PARTY-NOTICES'), 'utf8');
const RULE = '='.repeat(100);
/** "name version" of each notice. */
const noticed = new Set(
  [...text.matchAll(new RegExp(`^${RULE}\\n(.+): .+\\n${RULE}$`, 'gm'))].map(
    ([, title = '']) => title,
  ),
);

/** esbuild writes the path of each bundled module above it. */
function bundledPackages(): Set<string> {
  const found = new Set<string>();
  for (const name of readdirSync(DIST).filter((file) => file.endsWith('.mjs')))
    for (const [, folder = ''] of readFileSync(path.join(DIST, name), 'utf8').matchAll(
      /^ *\/\/ (node_modules\/\.pnpm\/[^/]+\/node_modules\/(?:@[^/]+\/)?[^/]+)\//gm,
    )) {
      const file = path.join(REPOSITORY, folder, 'package.json');
      if (!existsSync(file)) continue;
      const manifest = JSON.parse(readFileSync(file, 'utf8')) as { name: string; version: string };
      found.add(`${manifest.name} ${manifest.version}`);
    }
  return found;
}

it('notices everything that is bundled, in its version', () => {
  const bundled = bundledPackages();
  expect(bundled.size).toBeGreaterThan(10);
  expect([...bundled].filter((name) => !noticed.has(name))).toEqual([]);
});

it('notices nothing else but the native parts', () => {
  const bundled = bundledPackages();
  const rest = [...noticed].filter((name) => !bundled.has(name));
  expect(rest.map((name) => name.replace(/ [\d.]+$/, '')).toSorted()).toEqual([
    '@node-llama-cpp (linux-x64, mac-arm64-metal)',
    'Node.js',
    'koffi',
    'llama.cpp and ggml (shared libraries)',
  ]);
});

it('is what scripts/notices.mjs writes', async () => {
  const script = path.join(REPOSITORY, 'scripts/notices.mjs');
  const { noticesText } = (await import(script)) as { noticesText: () => string };
  expect(text).toBe(noticesText());
});
