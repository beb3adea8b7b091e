/** Which model a person means who names a file, one part of a split model, or a folder. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { EXIT, MinikeepError, isName } from '@minikeep/protocol';

/** A folder with more entries is not one that somebody put a model into. */
const FOLDER_ENTRIES_MAX = 10_000;
const NAMED_MAX = 8;
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;

/**
 * The file to open: the named one, or the only model in the named folder (a split one is named by its first part).
 * Throws `model.not_found`, `model.none_in_folder`, `model.several_in_folder`, `model.folder_too_large`.
 */
export async function findModelFile(named: string): Promise<string> {
  const asked = path.resolve(named);
  const info = await stat(asked).catch((cause: unknown) => {
    throw new MinikeepError('model.not_found', `there is nothing at ${asked}`, {
      next: 'Check the path; an external disk may not be mounted.',
      exitCode: EXIT.usage,
      cause,
    });
  });
  if (!info.isDirectory()) return asked;
  const names = await readdir(asked);
  if (names.length > FOLDER_ENTRIES_MAX)
    throw new MinikeepError(
      'model.folder_too_large',
      `${asked} holds more than ${FOLDER_ENTRIES_MAX} files`,
      { next: 'Name the model’s file itself.', exitCode: EXIT.usage },
    );
  const models = new Map<string, string>();
  for (const name of names.toSorted()) {
    if (!name.endsWith('.gguf') || name.startsWith('.')) continue;
    const part = PART.exec(name);
    const model = part === null ? name : `${part[1]}-of-${part[3]}`;
    if (!models.has(model)) models.set(model, path.join(asked, name));
  }
  const [first] = models.values();
  if (first === undefined)
    throw new MinikeepError('model.none_in_folder', `there is no .gguf file in ${asked}`, {
      next: 'Name the folder that holds the model, or its file.',
      exitCode: EXIT.usage,
    });
  if (models.size === 1) return first;
  const shown = [...models.values()].slice(0, NAMED_MAX).map((file) => path.basename(file));
  throw new MinikeepError(
    'model.several_in_folder',
    `there are ${models.size} models in ${asked}: ${shown.join(', ')}${models.size > NAMED_MAX ? ' …' : ''}`,
    { next: 'Name the file of one of them.', exitCode: EXIT.usage },
  );
}

/** A name for the cluster made of the file's. Throws `model.name_needed` when nothing is left of it. */
export function nameFromFile(file: string): string {
  const base = path.basename(file);
  const name = (PART.exec(base)?.[1] ?? base.replace(/\.gguf$/i, ''))
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^[^a-z0-9]+|[^a-z0-9]+$/g, '');
  return checkModelName(name, 'model.name_needed');
}

/** Throws `model.name_invalid`. */
export function checkModelName(name: string, code = 'model.name_invalid'): string {
  if (isName(name)) return name;
  throw new MinikeepError(code, `"${name.slice(0, 80)}" can't be the name of a model`, {
    next: 'Give one with --name: 1 to 63 lower-case letters, digits, dots, underscores or hyphens.',
    exitCode: EXIT.usage,
  });
}
