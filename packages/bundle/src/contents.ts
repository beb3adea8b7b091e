/** What lies where in a bundle. Every path, mode and text is decided here; nothing depends on the machine that packs. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { fileDigest, textDigest } from './digests.ts';
import { FILES_MAX } from './limits.ts';

/** The folder that a bundle unpacks into. */
export const TOP_FOLDER = 'minikeep';

export interface Entry {
  /** Inside the bundle, with `/`. */
  readonly path: string;
  /** A short text of ours, or a file to copy. */
  readonly content: { readonly text: string } | { readonly file: string };
  readonly executable: boolean;
}

export interface HashedEntry extends Entry {
  readonly bytes: number;
  readonly sha256: string;
}

const MODEL_FOLDER = 'models';

/** Of what dist/ holds, what belongs to one platform or to the build alone. */
const NOT_PROGRAM = new Set(['.built', 'bundled.json', 'digests.json', 'koffi.node', 'lib']);

/** Started by somebody: the rest of dist/ is read by these. */
const isExecutable = (file: string): boolean =>
  file === 'install.sh' ||
  file === 'bin/minikeep' ||
  file === 'node/bin/node' ||
  /^dist\/(koffi\.node|lib\/.*)$/.test(file);

const entry = (at: string, content: Entry['content']): Entry => ({
  path: at,
  content,
  executable: isExecutable(at),
});

export const textEntry = (at: string, text: string): Entry => entry(at, { text });
export const fileEntry = (at: string, file: string): Entry => entry(at, { file });

/** The programs, documents and the embedded model of this installation. Throws `bundle.not_built`. */
export async function programEntries(distFolder: string): Promise<Entry[]> {
  const root = path.resolve(distFolder, '..');
  const entries: Entry[] = [];
  for (const name of (await readdir(distFolder)).filter((file) => !NOT_PROGRAM.has(file)))
    entries.push(
      name === 'install.sh' || name === 'minikeep.sh'
        ? fileEntry(name === 'install.sh' ? name : 'bin/minikeep', path.join(distFolder, name))
        : fileEntry(`dist/${name}`, path.join(distFolder, name)),
    );
  // An installed copy has to be able to make bundles too: both scripts also stay in dist/.
  for (const name of ['install.sh', 'minikeep.sh'])
    entries.push(fileEntry(`dist/${name}`, path.join(distFolder, name)));
  for (const name of ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES'])
    entries.push(fileEntry(name, path.join(root, name)));
  for (const name of ['keeper.gguf', 'keeper.md'])
    if (existsSync(path.join(root, MODEL_FOLDER, name)))
      entries.push(fileEntry(`${MODEL_FOLDER}/${name}`, path.join(root, MODEL_FOLDER, name)));
  if (
    !entries.some((e) => e.path === 'dist/minikeep.mjs') ||
    !entries.some((e) => e.path === 'install.sh')
  )
    throw new MinikeepError('bundle.not_built', `${distFolder} does not hold the programs`, {
      next: 'Build first: npm run build',
    });
  return entries;
}

/** A model's files, in `models/`. */
export const modelEntries = (files: readonly string[]): Entry[] =>
  files.map((file) => fileEntry(`${MODEL_FOLDER}/${path.basename(file)}`, file));

/** Models come last: they don't compress, and whoever looks for a small file need not read past them. */
export const isModel = (entryPath: string): boolean => entryPath.startsWith(`${MODEL_FOLDER}/`);

/** Sorted by bytes, models last. Throws `bundle.same_name`, `bundle.too_many_files`. */
export function inOrder<T extends { readonly path: string }>(entries: readonly T[]): T[] {
  const seen = new Set<string>();
  for (const { path: at } of entries) {
    if (seen.has(at))
      throw new MinikeepError('bundle.same_name', `two files would be called ${at} in the bundle`, {
        next: 'Give a model file with another name.',
      });
    seen.add(at);
  }
  if (entries.length > FILES_MAX)
    throw new MinikeepError('bundle.too_many_files', `a bundle holds ${FILES_MAX} files at most`, {
      next: 'Give models in fewer parts.',
    });
  const key = ({ path: at }: T): string => `${isModel(at) ? 1 : 0}${at}`;
  return entries.toSorted((a, b) => Buffer.compare(Buffer.from(key(a)), Buffer.from(key(b))));
}

export async function hashed(one: Entry, signal: AbortSignal): Promise<HashedEntry> {
  if ('text' in one.content) {
    const { text } = one.content;
    return { ...one, bytes: Buffer.byteLength(text), sha256: textDigest(text) };
  }
  const { size } = await stat(one.content.file);
  return { ...one, bytes: size, sha256: await fileDigest(one.content.file, signal) };
}

/** `sha256sum -c` and `shasum -c` read this: one line a file, of every file but this one. */
export const sumsText = (entries: readonly HashedEntry[]): string =>
  entries.map(({ sha256, path: at }) => `${sha256}  ${at}\n`).join('');

/** What install.sh has to know before it unpacks anything. */
export function factsText(facts: {
  readonly version: string;
  readonly platform: string;
  readonly bytes: number;
  readonly files: number;
}): string {
  const { version, platform, bytes, files } = facts;
  return `format=1\nversion=${version}\nplatform=${platform}\nbytes=${bytes}\nfiles=${files}\n`;
}
