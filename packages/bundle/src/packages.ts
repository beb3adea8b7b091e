/**
 * Where a bundle's native files come from: this installation for its own platform, and for another one the packages that
 * the lockfile pins, fetched by npm or handed over in a folder. Whatever their way, each file has to have the SHA-256
 * that was pinned.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createGunzip } from 'node:zlib';
import { MinikeepError } from '@minikeep/protocol';
import { extract } from 'tar-stream';
import { fileDigest } from './digests.ts';
import { NPM_PACK_MS_MAX } from './limits.ts';
import { npm } from './npm.ts';
import { pinsOf, type PinnedFile, type PinnedPackage, type Platform } from './pins.ts';

export interface PackageSources {
  /** dist/ of this installation. */
  readonly distFolder: string;
  /** The Node that runs this; of a bundle and of a checkout it is the pinned one. */
  readonly nodeFile: string;
  /** Archives that were fetched stay here, and are checked again each time. */
  readonly cacheFolder: string;
  /** A folder with archives of packages (`npm pack`), for a machine without the registry. */
  readonly packagesFolder?: string | undefined;
  readonly signal: AbortSignal;
  /** Says what takes its time. */
  readonly note: (text: string) => void;
}

/**
 * Path in the bundle → a file with that content, for every native file of `platform`. `folder` is for what has to be
 * unpacked. Throws `bundle.package_missing`, `bundle.package_wrong`, and what `npm` throws.
 */
export async function nativeFiles(
  platform: Platform,
  folder: string,
  sources: PackageSources,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const { packages, files } = pinsOf(platform);
  for (const file of files) {
    const own = ownFile(file.path, sources);
    if (await isPinned(file, own, sources.signal)) found.set(file.path, own);
  }
  for (const pinned of packages) {
    const missing = files.filter((file) => file.package === pinned.name && !found.has(file.path));
    if (missing.length === 0) continue;
    const archive = await archiveOf(pinned, platform, sources);
    await unpack(archive, missing, folder, pinned);
    for (const file of missing) found.set(file.path, path.join(folder, file.path));
  }
  return found;
}

/** Where this installation has what a bundle has at `at`. */
function ownFile(at: string, { distFolder, nodeFile }: PackageSources): string {
  if (at === 'node/bin/node') return nodeFile;
  if (at === 'node/LICENSE') return path.resolve(nodeFile, '../../LICENSE');
  return path.join(distFolder, path.relative('dist', at));
}

async function isPinned(pinned: PinnedFile, file: string, signal: AbortSignal): Promise<boolean> {
  const facts = await stat(file).catch(() => undefined);
  if (facts?.isFile() !== true || facts.size !== pinned.bytes) return false;
  return (await fileDigest(file, signal)) === pinned.sha256;
}

/** The package's archive, with the digest of the lockfile: handed over, kept from before, or fetched now. */
async function archiveOf(
  pinned: PinnedPackage,
  platform: Platform,
  sources: PackageSources,
): Promise<string> {
  const kept = path.join(sources.cacheFolder, `${integrityName(pinned.integrity)}.tgz`);
  if (await hasIntegrity(kept, pinned.integrity)) return kept;
  const { packagesFolder } = sources;
  if (packagesFolder !== undefined) {
    for (const name of await readdir(packagesFolder)) {
      const file = path.join(packagesFolder, name);
      if (name.endsWith('.tgz') && (await hasIntegrity(file, pinned.integrity))) return file;
    }
    throw missing(platform, `no archive of it lies in ${packagesFolder}`, pinned);
  }
  sources.note(`fetching ${pinned.name} ${pinned.version} …`);
  await mkdir(sources.cacheFolder, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(path.join(sources.cacheFolder, 'fetch-'));
  try {
    const packed = await npm(
      ['pack', `${pinned.name}@${pinned.version}`, '--ignore-scripts', '--pack-destination', work],
      work,
      NPM_PACK_MS_MAX,
      sources.signal,
    );
    const name = (await readdir(work)).find((entry) => entry.endsWith('.tgz'));
    if (packed.code !== 0 || name === undefined)
      throw missing(platform, whyOf(packed.stderr), pinned);
    const file = path.join(work, name);
    if (!(await hasIntegrity(file, pinned.integrity)))
      throw new MinikeepError(
        'bundle.package_wrong',
        `the archive of ${pinned.name} ${pinned.version} that npm fetched is not the one that was pinned (${pinned.integrity})`,
        { next: 'Do not use it. Fetch from another registry, and find out who changed it.' },
      );
    await rename(file, kept);
    return kept;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** npm's own reason: its error lines, in one. */
function whyOf(stderr: string): string {
  const lines = stderr
    .split('\n')
    .filter((line) => /^npm (error|ERR!)/.test(line))
    .map((line) => line.replace(/^npm (error|ERR!) ?/, ''))
    .filter((line) => !/^(code|errno|syscall|A complete log)/.test(line.trim()));
  return lines.slice(0, 2).join(' ').slice(0, 400) || 'npm could not fetch it';
}

function missing(platform: Platform, why: string, pinned: PinnedPackage): MinikeepError {
  const wanted = pinsOf(platform).packages.map((p) => `${p.name}@${p.version}`);
  return new MinikeepError(
    'bundle.package_missing',
    `the files for ${platform} need the package ${pinned.name} ${pinned.version}: ${why}`,
    {
      next: `On a machine that reaches the npm registry: npm pack ${wanted.join(' ')}; bring the archives here, and give their folder with --packages DIR.`,
    },
  );
}

/** A name for a file: the integrity with base64's `/` and `+` replaced. */
const integrityName = (integrity: string): string =>
  integrity.replaceAll('/', '_').replaceAll('+', '-').replaceAll('=', '');

async function hasIntegrity(file: string, integrity: string): Promise<boolean> {
  const [algorithm = '', wanted = ''] = integrity.split(/-(.*)/s);
  const content = await readFile(file).catch(() => undefined);
  if (content === undefined) return false;
  return createHash(algorithm).update(content).digest('base64') === wanted;
}

/** Takes `wanted` out of a package's archive into `folder`, and checks each. */
async function unpack(
  archive: string,
  wanted: readonly PinnedFile[],
  folder: string,
  pinned: PinnedPackage,
): Promise<void> {
  const entries = extract();
  const unzipped = createReadStream(archive).pipe(createGunzip());
  unzipped.on('error', (cause) => entries.destroy(cause));
  unzipped.pipe(entries);
  const left = new Map(wanted.map((file) => [`package/${file.from}`, file]));
  for await (const entry of entries) {
    const file = left.get(entry.header.name);
    if (file === undefined || entry.header.size !== file.bytes) {
      entry.resume();
      continue;
    }
    const pieces: Buffer[] = [];
    for await (const piece of entry) pieces.push(piece as Buffer);
    const to = path.join(folder, file.path);
    await mkdir(path.dirname(to), { recursive: true });
    await writeFile(to, pieces);
    if (!(await isPinned(file, to, new AbortController().signal))) continue;
    left.delete(entry.header.name);
  }
  const [first] = left.keys();
  if (first !== undefined)
    throw new MinikeepError(
      'bundle.package_wrong',
      `${pinned.name} ${pinned.version} has no ${first.replace('package/', '')} with the pinned digest`,
      { next: 'The list of pinned files does not fit the lockfile: node scripts/pins.mjs' },
    );
}
