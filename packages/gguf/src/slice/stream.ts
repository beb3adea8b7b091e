/** The bytes of a slice, in order, one small piece in memory at a time (`COPY_BYTES`). */
import { MinikeepError } from '@minikeep/protocol';
import { COPY_BYTES } from '../limits.ts';
import type { Model } from '../types.ts';
import { openUnchanged, type UnchangedSource } from '../unchanged.ts';
import type { SlicePlan } from './types.ts';

/**
 * Yields exactly `plan.bytes` bytes; the same model and plan give the same bytes. Each piece is the reader's to keep.
 * Throws `gguf.changed` if a file is no longer the one that was opened, `gguf.truncated` if it ends early, and the
 * signal's reason when aborted.
 */
export async function* sliceStream(
  model: Model,
  plan: SlicePlan,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const open = new Map<number, UnchangedSource>();
  try {
    for (const segment of plan.segments) {
      signal?.throwIfAborted();
      if (segment.from === 'memory') {
        yield segment.data.slice();
        continue;
      }
      let source: UnchangedSource | undefined;
      if (segment.from === 'file') {
        source = open.get(segment.file) ?? (await openFile(model, segment.file));
        open.set(segment.file, source);
      }
      for (let done = 0; done < segment.bytes;) {
        signal?.throwIfAborted();
        const piece = new Uint8Array(Math.min(COPY_BYTES, segment.bytes - done));
        if (segment.from === 'file' && source !== undefined) {
          const got = await source.read(segment.offset + done, piece);
          if (got < piece.byteLength) throw endsEarly(model, segment.file);
        }
        done += piece.byteLength;
        yield piece;
      }
    }
    for (const source of open.values()) await source.assertUnchanged();
  } finally {
    for (const source of open.values()) await source.close();
  }
}

async function openFile(model: Model, index: number): Promise<UnchangedSource> {
  const file = model.files[index];
  if (file === undefined) throw new Error(`the plan names file ${index} of another model`);
  return openUnchanged(file);
}

function endsEarly(model: Model, index: number): MinikeepError {
  return new MinikeepError(
    'gguf.truncated',
    `${model.files[index]?.path ?? ''}: the file became shorter`,
    {
      next: 'Wait until whatever writes it is done, then try again.',
    },
  );
}
