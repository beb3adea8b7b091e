/**
 * Importing a model, in two steps: an offer (checked, hashed, told in full) that changes nothing, and its acceptance by
 * digest, so that what is taken in is what was shown, whatever happened to the file in between.
 */
import { openModel, type Model } from '@minikeep/gguf';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { State } from '@minikeep/state';
import {
  addModel,
  checkNameFree,
  findModel,
  listModels,
  removeModel,
  type ModelRow,
} from './catalogue.ts';
import { checkModelName, findModelFile, nameFromFile } from './find-model.ts';
import type { ModelLibrary, OnBytes } from './library.ts';
import { reportOn, type ModelReport } from './report.ts';

const DIGEST = /^[0-9a-f]{64}$/;
const PATH_BYTES_MAX = 4096;

export interface ModelOffer {
  readonly name: string;
  readonly sha256: string;
  readonly report: ModelReport;
  readonly model: Model;
}

/** A model as lists show it. */
export interface ListedModel extends ModelRow {
  /** The file is there, with the size that it had. */
  readonly present: boolean;
  /** The file is a copy in the cluster's own folder. */
  readonly copied: boolean;
  /** Undefined when what was noted at the import is gone. */
  readonly report: ModelReport | undefined;
}

/**
 * Checks and hashes what is at `path` (a file, a folder with one model, any part of a split one).
 * Throws `model.*`, `gguf.*`, `slice.model_refused`.
 */
export async function offerModel(
  library: ModelLibrary,
  path: string,
  name: string | undefined,
  onBytes?: OnBytes,
  signal?: AbortSignal,
): Promise<ModelOffer> {
  const wanted = name === undefined ? undefined : checkModelName(name);
  const file = await findModelFile(path);
  const model = await openModel(file);
  const report = reportOn(model);
  const first = model.files[0]?.path ?? file;
  if (Buffer.byteLength(first) > PATH_BYTES_MAX)
    throw new MinikeepError('model.path_too_long', `the path of the model is too long`, {
      next: 'Move the model to a folder with a shorter path.',
      exitCode: EXIT.usage,
    });
  const { sha256 } = await library.fingerprint(model, onBytes, signal);
  return { name: wanted ?? nameFromFile(first), sha256, report, model };
}

/**
 * Takes the offered model in. `accepted` is the digest that was accepted, in any case of letters.
 * Throws `model.digest_differs`, `model.digest_invalid`, `model.exists`, `gguf.changed`; the catalogue is then as before.
 */
export async function acceptOffer(
  library: ModelLibrary,
  state: State,
  offer: ModelOffer,
  accepted: string,
  options: { readonly copy: boolean; readonly nowMs: number; readonly signal?: AbortSignal },
  onBytes?: OnBytes,
): Promise<ModelRow> {
  checkAccepted(offer, accepted);
  const { model, sha256 } = offer;
  // Before anything is copied: the answer may be no.
  checkNameFree(state.read(listModels), offer);
  await library.keepHeader(model, sha256);
  const file = options.copy
    ? await library.copy(model, sha256, onBytes, options.signal)
    : (model.files[0]?.path ?? model.path);
  const row: ModelRow = {
    name: offer.name,
    sha256,
    path: file,
    sizeBytes: model.sizeBytes,
    architecture: model.architecture,
    importedAtMs: options.nowMs,
  };
  state.write((transaction) => addModel(transaction, row));
  await library.bound(new Set(state.read(listModels).map((known) => known.sha256)));
  return row;
}

/** Throws unless the digest that somebody accepted is that of the offer. */
export function checkAccepted({ sha256 }: Pick<ModelOffer, 'sha256'>, accepted: string): void {
  const digest = accepted.toLowerCase().replace(/^sha256:/, '');
  if (!DIGEST.test(digest))
    throw new MinikeepError('model.digest_invalid', 'that is no SHA-256', {
      next: 'Give 64 hexadecimal digits, as the model’s publisher shows them.',
      exitCode: EXIT.usage,
    });
  if (digest === sha256) return;
  throw new MinikeepError(
    'model.digest_differs',
    `the file’s SHA-256 is ${sha256}, accepted was ${digest}`,
    {
      next: 'Don’t use this file: fetch it again, and compare with what its publisher says.',
      exitCode: EXIT.denied,
      details: { sha256 },
    },
  );
}

export async function listedModels(library: ModelLibrary, state: State): Promise<ListedModel[]> {
  return Promise.all(
    state.read(listModels).map(async (row): Promise<ListedModel> => {
      const source = await library.importedSource(row.sha256, row.path).catch(() => undefined);
      return {
        ...row,
        present: source?.data !== undefined,
        copied: library.isCopy(row.sha256, row.path),
        report: source === undefined ? undefined : reportOn(source.model),
      };
    }),
  );
}

/** Removes a model from the catalogue, and a copy of it from the disk; a file that was only named stays where it is. */
export async function forgetModel(
  library: ModelLibrary,
  state: State,
  name: string,
): Promise<ModelRow> {
  const row = state.write((transaction) => removeModel(transaction, name));
  // Another name may stand for the same content.
  if (!state.read(listModels).some((other) => other.sha256 === row.sha256))
    await library.remove(row.sha256);
  return row;
}

/** The imported model of that name. Throws `model.unknown`. */
export const modelNamed = (state: State, name: string): ModelRow =>
  state.read((database) => findModel(database, name));
