/**
 * What is kept about models besides the rows of the database:
 *
 *   digests/…                       which file on disk has which SHA-256
 *   models/<sha256>/pieces          digests of the model's layers and of their chunks
 *   models/<sha256>/header/*.gguf   an imported model's header in files of the full size, without the weights: with it a
 *                                   deployment can be planned while the disk with the model is away
 *   models/<sha256>/files/*.gguf    the model itself, if a copy was asked for
 *
 * Nothing here is trusted further than digests go: what is sent is checked by its receiver against what was accepted.
 */
import { readdir, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import {
  fingerprintModel,
  openModel,
  sharedPieces,
  type Model,
  type ModelFile,
} from '@minikeep/gguf';
import { MinikeepError } from '@minikeep/protocol';
import { makeFolder } from '@minikeep/protocol/rpc';
import { copyFiles, writeHeaders } from './copy.ts';
import { DigestIndex, fileIdentity } from './digest-index.ts';
import { KnownPieces } from './fingerprint-file.ts';

/** Models that nobody imported, whose digests are kept for the next time. */
const FORGOTTEN_MAX = 32;
const DIGEST = /^[0-9a-f]{64}$/;

/** Of a home. */
export const libraryFolder = (home: string): string => path.join(home, 'library');

export type OnBytes = (doneBytes: number, totalBytes: number) => void;

/** A model to be deployed: planned from its checked header; its weights may be out of reach. */
export interface ModelSource {
  readonly model: Model;
  /** The same header over the files with the weights; undefined when they are not there. */
  readonly data: Model | undefined;
  /** Why not: which file is missing or changed. */
  readonly missing: string;
  readonly known: KnownPieces;
}

export class ModelLibrary {
  readonly folder: string;
  readonly index: DigestIndex;

  constructor(folder: string) {
    this.folder = folder;
    this.index = new DigestIndex(folder);
  }

  /** SHA-256 of the model and of its pieces; reads the files only if they are not known. Throws `gguf.*`. */
  async fingerprint(model: Model, onBytes?: OnBytes, signal?: AbortSignal): Promise<KnownPieces> {
    const subject = await fileIdentity(model.files.map((file) => file.path));
    const sha256 = await this.index.find(subject);
    if (sha256 !== undefined) {
      const known = await this.#known(sha256);
      if (known !== undefined) return known;
    }
    const found = await fingerprintModel(model, sharedPieces(model), onBytes, signal);
    const own = this.#own(found.sha256);
    await makeFolder(own);
    const known = await KnownPieces.write(path.join(own, 'pieces'), found);
    // A file that was exchanged meanwhile must not be remembered by this digest.
    if ((await fileIdentity(model.files.map((file) => file.path))) === subject)
      await this.index.remember(subject, found.sha256);
    return known;
  }

  /** A model that is not imported: its file has to be there. */
  async sourceOf(model: Model, onBytes?: OnBytes, signal?: AbortSignal): Promise<ModelSource> {
    const known = await this.fingerprint(model, onBytes, signal);
    return { model, data: model, missing: '', known };
  }

  /** An imported model, with or without its weights. Throws `model.unknown_pieces` when it has to be imported again. */
  async importedSource(sha256: string, file: string): Promise<ModelSource> {
    const known = await this.#known(sha256);
    const model = known === undefined ? undefined : await this.#header(sha256);
    if (known === undefined || model === undefined)
      throw new MinikeepError(
        'model.unknown_pieces',
        `what was noted about ${file} when it was imported is gone`,
        { next: `Import it again: minikeep model import "${file}"` },
      );
    const files = await presentFiles(model, file);
    return typeof files === 'string'
      ? { model, data: undefined, missing: files, known }
      : { model, data: { ...model, path: path.resolve(file), files }, missing: '', known };
  }

  /** Keeps an imported model's header. */
  async keepHeader(model: Model, sha256: string): Promise<void> {
    const folder = path.join(this.#own(sha256), 'header');
    await rm(folder, { recursive: true, force: true });
    await makeFolder(folder);
    await writeHeaders(model, folder);
  }

  /** Copies the model's files here; returns the path of the copy. Throws `store.disk_full`, `gguf.changed`. */
  async copy(
    model: Model,
    sha256: string,
    onBytes?: OnBytes,
    signal?: AbortSignal,
  ): Promise<string> {
    const folder = path.join(this.#own(sha256), 'files');
    await makeFolder(path.dirname(folder));
    return copyFiles(model, folder, onBytes, signal);
  }

  /** True for a path that `copy` made. */
  isCopy(sha256: string, file: string): boolean {
    return path.dirname(path.resolve(file)) === path.resolve(this.#own(sha256), 'files');
  }

  /** Forgets a model, its copy included. */
  async remove(sha256: string): Promise<void> {
    await rm(this.#own(sha256), { recursive: true, force: true });
  }

  /** Forgets the least recently used models but those in `keep`, until `FORGOTTEN_MAX` are left. */
  async bound(keep: ReadonlySet<string>): Promise<void> {
    const all = path.join(this.folder, 'models');
    const found: { sha256: string; usedMs: number }[] = [];
    for (const sha256 of await readdir(all).catch(() => [])) {
      const info = DIGEST.test(sha256)
        ? await stat(path.join(all, sha256)).catch(() => {})
        : undefined;
      if (info !== undefined && !keep.has(sha256)) found.push({ sha256, usedMs: info.mtimeMs });
    }
    found.sort((a, b) => b.usedMs - a.usedMs);
    for (const { sha256 } of found.slice(FORGOTTEN_MAX)) await this.remove(sha256);
  }

  async #known(sha256: string): Promise<KnownPieces | undefined> {
    const own = this.#own(sha256);
    const known = await KnownPieces.read(path.join(own, 'pieces'));
    const now = new Date();
    await utimes(own, now, now).catch(() => {});
    return known?.sha256 === sha256 ? known : undefined;
  }

  async #header(sha256: string): Promise<Model | undefined> {
    const folder = path.join(this.#own(sha256), 'header');
    const names: readonly string[] = await readdir(folder).catch(() => []);
    const [first] = names.toSorted((a, b) => (a < b ? -1 : 1));
    return first === undefined
      ? undefined
      : openModel(path.join(folder, first)).catch(() => undefined);
  }

  #own(sha256: string): string {
    if (!DIGEST.test(sha256)) throw new Error('not a SHA-256');
    return path.join(this.folder, 'models', sha256);
  }
}

/** The model's files as they are now, or the sentence that says which is missing. What is in them, receivers check. */
async function presentFiles(model: Model, first: string): Promise<readonly ModelFile[] | string> {
  const files: ModelFile[] = [];
  for (const [i, { sizeBytes }] of model.files.entries()) {
    const file = model.files.length === 1 ? path.resolve(first) : partPath(first, i);
    const info = await stat(file, { bigint: true }).catch(() => undefined);
    if (info?.isFile() !== true) return `${file} is not there${await folderMissing(file)}`;
    if (Number(info.size) !== sizeBytes) return `${file} is no longer the file that was imported`;
    files.push({ path: file, sizeBytes, modifiedNs: info.mtimeNs });
  }
  return files;
}

/** Names the folder that is gone with the file: mostly a disk that is not connected. */
async function folderMissing(file: string): Promise<string> {
  let gone = '';
  for (let at = path.dirname(file); at !== path.dirname(at); at = path.dirname(at)) {
    if (await stat(at).catch(() => undefined)) break;
    gone = at;
  }
  return gone === '' ? '' : ` (${gone} is missing: is its disk connected?)`;
}

const partPath = (first: string, index: number): string =>
  path.resolve(
    first.replace(/-\d{5}(-of-\d{5}\.gguf)$/, (_, rest: string) => {
      return `-${String(index + 1).padStart(5, '0')}${rest}`;
    }),
  );
