/** A model's header is checked once; whoever reads its data later must be reading the same file. */
import { MinikeepError } from '@minikeep/protocol';
import { printable } from './faults.ts';
import { FileSource } from './source.ts';
import type { ModelFile } from './types.ts';

export interface UnchangedSource {
  read(offset: number, target: Uint8Array): Promise<number>;
  /** Throws `gguf.changed` if the file was written to since. */
  assertUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Opens a file of an opened model again; throws `gguf.changed` if its size or time of change differ. */
export async function openUnchanged(file: ModelFile): Promise<UnchangedSource> {
  const source = await FileSource.open(file.path);
  const changed = (): MinikeepError =>
    new MinikeepError(
      'gguf.changed',
      `${printable(file.path, 1000)} was changed while it was in use`,
      {
        next: 'Wait until whatever writes it is done, then try again.',
        details: { path: file.path },
      },
    );
  if (source.sizeBytes !== file.sizeBytes || source.modifiedNs !== file.modifiedNs) {
    await source.close();
    throw changed();
  }
  return {
    read: (offset, target) => source.read(offset, target),
    close: () => source.close(),
    assertUnchanged: async () => {
      const now = await source.stat();
      if (now.sizeBytes !== file.sizeBytes || now.modifiedNs !== file.modifiedNs) throw changed();
    },
  };
}
