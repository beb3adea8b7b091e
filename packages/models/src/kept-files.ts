/** What of a library belongs into a backup: what was noted about imported models, not the models themselves. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { openModel } from '@minikeep/gguf';
import { libraryFolder } from './library.ts';

export interface KeptFile {
  /** Its path in the home, with slashes. */
  readonly name: string;
  /** Bytes from its beginning; what follows is a hole. */
  readonly dataBytes: number;
  readonly sizeBytes: number;
}

const PLACE = /^library\/models\/[0-9a-f]{64}\/(pieces|header\/[a-z0-9-]{1,60}\.gguf)$/;

export const isKeptFile = (name: string): boolean => PLACE.test(name);

/** Of a home; a header that can't be read is left out, as it is when a model is looked for. */
export async function keptFiles(home: string): Promise<KeptFile[]> {
  const models = path.join(libraryFolder(home), 'models');
  const digests = await namesIn(models);
  const found: KeptFile[] = [];
  for (const digest of digests) {
    const folder = `library/models/${digest}`;
    const pieces = await stat(path.join(home, folder, 'pieces')).catch(() => undefined);
    if (pieces?.isFile() === true)
      found.push({ name: `${folder}/pieces`, dataBytes: pieces.size, sizeBytes: pieces.size });
    found.push(...(await headers(home, `${folder}/header`)));
  }
  return found.filter(({ name }) => isKeptFile(name));
}

async function headers(home: string, folder: string): Promise<KeptFile[]> {
  const [first] = await namesIn(path.join(home, folder));
  if (first === undefined) return [];
  const model = await openModel(path.join(home, folder, first)).catch(() => undefined);
  return (model?.files ?? []).map((file, i) => {
    const data = [...(model?.tensors.values() ?? [])].filter((tensor) => tensor.file === i);
    return {
      name: `${folder}/${path.basename(file.path)}`,
      dataBytes: data.reduce((least, { offset }) => Math.min(least, offset), file.sizeBytes),
      sizeBytes: file.sizeBytes,
    };
  });
}

const namesIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder).catch(() => [] as string[])).toSorted();
