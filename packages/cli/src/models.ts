/** Which of a command's arguments is a model, and where that model lies. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { existsSync } from 'node:fs';
import path from 'node:path';

/** The model that comes with minikeep. */
export const EMBEDDED_MODEL = 'keeper';

/** Folder with the models of this installation: beside dist/. */
export function modelsFolder(distFolder: string): string {
  return path.resolve(distFolder, '../models');
}

/** Names that need no path. */
export function knownModels(distFolder: string): Map<string, string> {
  const file = path.join(modelsFolder(distFolder), `${EMBEDDED_MODEL}.gguf`);
  return new Map(existsSync(file) ? [[EMBEDDED_MODEL, file]] : []);
}

export function looksLikePath(text: string): boolean {
  return text.includes('/') || text.endsWith('.gguf');
}

/** The rule of CLI.md: a known name, anything with a slash, and *.gguf are models. */
export function looksLikeModel(text: string, known: Known): boolean {
  return known.has(text) || looksLikePath(text);
}

/** The names that are known. */
type Known = Pick<ReadonlyMap<string, unknown>, 'has'>;

export interface ModelAndPrompt {
  /** Undefined: the embedded model, or the one that is up. */
  readonly model: string | undefined;
  readonly prompt: string | undefined;
}

/** `run [MODEL] [PROMPT]`: a single argument is a MODEL if it looks like one, else the PROMPT. */
export function modelAndPrompt(
  first: string | undefined,
  second: string | undefined,
  known: Known,
): ModelAndPrompt {
  if (first === undefined || second !== undefined) return { model: first, prompt: second };
  return looksLikeModel(first, known)
    ? { model: first, prompt: undefined }
    : { model: undefined, prompt: first };
}

/**
 * The file of a model. Errors: `model.none_embedded` (no MODEL, and this installation has no model of its own),
 * `model.unknown` (neither a known name nor a path).
 */
export function modelFile(
  model: string | undefined,
  known: ReadonlyMap<string, string>,
  distFolder: string,
): string {
  const name = model ?? EMBEDDED_MODEL;
  const found = known.get(name);
  if (found !== undefined) return found;
  if (model === undefined)
    throw new MinikeepError(
      'model.none_embedded',
      `this installation has no model of its own (${path.join(modelsFolder(distFolder), `${EMBEDDED_MODEL}.gguf`)} is missing)`,
      {
        next: 'Name a GGUF file: minikeep run ./MODEL.gguf "PROMPT"',
        exitCode: EXIT.usage,
      },
    );
  if (looksLikeModel(model, known) || existsSync(model)) return path.resolve(model);
  const names = [...known.keys()];
  throw new MinikeepError('model.unknown', `there is no model called "${model}"`, {
    next: `Give a GGUF file${names.length > 0 ? ` or one of: ${names.join(', ')}` : ''}; a path has a slash in it or ends in .gguf. A prompt of several words goes in quotes.`,
    exitCode: EXIT.usage,
  });
}
