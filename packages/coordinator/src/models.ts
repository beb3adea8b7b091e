/** The operator's requests about models, answered from the library and the database of a cluster that stays. */
import { EXIT, EventQueue, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type {
  ImportModelRequest,
  ImportModelResponse,
  ImportedModel,
  RemoveModelResponse,
} from '@minikeep/protocol/v1';
import {
  acceptOffer,
  forgetModel,
  listedModels,
  modelNamed,
  offerModel,
  type ListedModel,
  type ModelLibrary,
  type ModelReport,
  type ModelRow,
} from '@minikeep/models';
import type { State } from '@minikeep/state';

const EVENTS_MAX = 10_000;
/** Progress is shown to people: no finer than this. */
const PROGRESS_STEP = 0.005;

type ImportEvent = NonNullable<ImportModelResponse['event']>;

export class Models {
  readonly library: ModelLibrary;
  readonly #state: State;
  readonly #now: () => number;

  constructor(library: ModelLibrary, state: State, now: () => number) {
    this.library = library;
    this.#state = state;
    this.#now = now;
  }

  /** Throws `model.unknown`. */
  named(name: string): ModelRow {
    return modelNamed(this.#state, name);
  }

  async list(): Promise<ImportedModel[]> {
    return (await listedModels(this.library, this.#state)).map(modelMessage);
  }

  /** Cancelling ends the work; whatever was taken in by then is whole. */
  async *import(
    request: ImportModelRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ImportModelResponse, void, undefined> {
    const events = new EventQueue<ImportModelResponse>(EVENTS_MAX);
    const work = this.#import(request, (event) => events.push({ event }), signal);
    work.then(
      () => events.end(),
      (error: unknown) => events.end(toMinikeepError(error)),
    );
    try {
      yield* events;
    } finally {
      await work.catch(() => {});
    }
  }

  async remove(name: string): Promise<RemoveModelResponse> {
    const row = await forgetModel(this.library, this.#state, name);
    const copied = this.library.isCopy(row.sha256, row.path);
    return { sha256: row.sha256, path: copied ? '' : row.path };
  }

  async #import(
    request: ImportModelRequest,
    tell: (event: ImportEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const progress = (copying: boolean): ((done: number, total: number) => void) => {
      let shown = -1;
      return (doneBytes, totalBytes) => {
        const fraction = totalBytes === 0 ? 1 : doneBytes / totalBytes;
        if (fraction < 1 && fraction - shown < PROGRESS_STEP) return;
        shown = fraction;
        tell({ $case: 'progress', value: { copying, doneBytes, totalBytes } });
      };
    };
    const { path, name, copy, acceptSha256 } = request;
    const wanted = name === '' ? undefined : name;
    const offer = await offerModel(this.library, path, wanted, progress(false), signal);
    const { sha256, report } = offer;
    tell({ $case: 'offer', value: { name: offer.name, sha256, report: reportMessage(report) } });
    if (acceptSha256 === '') return;
    const options = { copy, nowMs: this.#now(), signal };
    const { library } = this;
    const row = await acceptOffer(
      library,
      this.#state,
      offer,
      acceptSha256,
      options,
      progress(true),
    );
    const listed = { ...row, present: true, copied: copy, report };
    tell({ $case: 'imported', value: modelMessage(listed) });
  }
}

/** Throws `cluster.no_home` for a cluster that knows no models. */
export function requireModels(models: Models | undefined): Models {
  if (models !== undefined) return models;
  throw new MinikeepError('cluster.no_home', 'a throw-away cluster knows no models', {
    next: 'Make a cluster with a home first: minikeep init',
    exitCode: EXIT.usage,
  });
}

export const modelMessage = (model: ListedModel): ImportedModel => ({
  name: model.name,
  sha256: model.sha256,
  path: model.path,
  sizeBytes: model.sizeBytes,
  architecture: model.architecture,
  importedAtSeconds: model.importedAtMs / 1000,
  present: model.present,
  copied: model.copied,
  report: model.report === undefined ? undefined : reportMessage(model.report),
});

export const reportMessage = (report: ModelReport) => ({
  path: report.path,
  files: report.files,
  sizeBytes: report.size_bytes,
  architecture: report.architecture,
  layers: report.layers,
  parameters: report.parameters,
  experts: report.experts,
  expertsUsed: report.experts_used,
  quantisation: report.quantisation,
  bitsPerWeight: report.bits_per_weight,
  contextLength: report.context_length,
  licence: report.licence,
  tokenizer: report.tokenizer,
  vocabulary: report.vocabulary,
  templateCharacters: report.template_characters,
  templateSha256: report.template_sha256,
  warnings: [...report.warnings],
});
