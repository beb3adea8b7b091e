/** Makes a bundle: collects the parts, writes down what they are, packs. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openModel } from '@minikeep/gguf';
import { MINIKEEP_VERSION, MinikeepError } from '@minikeep/protocol';
import { advisoriesText, askAdvisories, readAdvisories, type Advisories } from './advisories.ts';
import { writeArchive } from './archive.ts';
import { readComponents } from './components.ts';
import {
  factsText,
  fileEntry,
  hashed,
  inOrder,
  isModel,
  modelEntries,
  programEntries,
  sumsText,
  textEntry,
  type Entry,
  type HashedEntry,
} from './contents.ts';
import { nativeFiles } from './packages.ts';
import { pinsOf, type Platform } from './pins.ts';
import { sbomText } from './sbom.ts';

export interface BundleOptions {
  /** The archive to write. */
  readonly file: string;
  readonly platform: Platform;
  /** A GGUF file (of a split model, its first part) to take along. */
  readonly model?: string | undefined;
  readonly distFolder: string;
  readonly nodeFile: string;
  readonly cacheFolder: string;
  readonly packagesFolder?: string | undefined;
  /** An earlier bundle's advisories.json, instead of asking. */
  readonly advisoriesFile?: string | undefined;
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

export interface MadeBundle {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly platform: Platform;
  readonly version: string;
  readonly files: number;
  readonly unpackedBytes: number;
  readonly advisories: Advisories;
}

/**
 * Throws `bundle.*`, and what reading the model throws. `file` is whole or not there afterwards.
 */
export async function makeBundle(options: BundleOptions): Promise<MadeBundle> {
  const { platform, distFolder, signal } = options;
  await checkTarget(options.file);
  const components = readComponents(distFolder);
  const model = options.model === undefined ? undefined : await openModel(options.model);
  const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-bundle-'));
  try {
    const natives = await nativeFiles(platform, folder, options);
    const pins = pinsOf(platform);
    const parts: Entry[] = [
      ...(await programEntries(distFolder)),
      ...[...natives].map(([at, file]) => fileEntry(at, file)),
      ...modelEntries(model?.files.map((file) => file.path) ?? []),
    ];
    const advisories =
      options.advisoriesFile === undefined
        ? await askAdvisories([...components, ...pins.packages], options.now, signal)
        : await readAdvisories(options.advisoriesFile);
    const heavy = await hashAll(parts, signal);
    const texts = [
      textEntry('advisories.json', advisoriesText(advisories)),
      textEntry(
        'sbom.cdx.json',
        sbomText({
          version: MINIKEEP_VERSION,
          platform,
          components,
          packages: pins.packages,
          files: pins.files,
          models: inOrder(heavy.filter((e) => isModel(e.path) && e.path.endsWith('.gguf'))),
        }),
      ),
    ];
    const described = inOrder([...heavy, ...(await hashAll(texts, signal))]);
    const all = await closed(described, platform, signal);
    const total = all.reduce((sum, e) => sum + e.bytes, 0);
    const archive = await writeArchive(options.file, all, signal, (done) =>
      options.onProgress(done, total),
    );
    return {
      file: options.file,
      ...archive,
      platform,
      version: MINIKEEP_VERSION,
      files: all.length,
      unpackedBytes: total,
      advisories,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Adds BUNDLE (what install.sh must know first) and SHA256SUMS (every other file's digest). */
async function closed(
  described: readonly HashedEntry[],
  platform: Platform,
  signal: AbortSignal,
): Promise<HashedEntry[]> {
  const facts = textEntry(
    'BUNDLE',
    factsText({
      version: MINIKEEP_VERSION,
      platform,
      bytes: described.reduce((sum, e) => sum + e.bytes, 0),
      files: described.length + 2,
    }),
  );
  const listed = inOrder([...described, await hashed(facts, signal)]);
  return inOrder([...listed, await hashed(textEntry('SHA256SUMS', sumsText(listed)), signal)]);
}

async function hashAll(entries: readonly Entry[], signal: AbortSignal): Promise<HashedEntry[]> {
  const all: HashedEntry[] = [];
  for (const entry of entries) all.push(await hashed(entry, signal));
  return all;
}

/** Throws `bundle.file`: a folder can't be written over, and a file in no folder can't be written. */
async function checkTarget(file: string): Promise<void> {
  const there = await stat(file).catch(() => undefined);
  const parent = await stat(path.dirname(path.resolve(file))).catch(() => undefined);
  if (there?.isDirectory() === true || parent?.isDirectory() !== true)
    throw new MinikeepError(
      'bundle.file',
      there?.isDirectory() === true
        ? `${file} is a folder`
        : `the folder of ${file} does not exist`,
      { next: 'Give the name of the archive to write, for example ./minikeep-linux-x64.tar.gz' },
    );
}
