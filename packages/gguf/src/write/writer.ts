/** Writes a GGUF file tensor by tensor, for models that are made rather than converted (the testkit's random ones). */
import { open } from 'node:fs/promises';
import { tensorBytes, type GgmlType } from '../ggml-types.ts';
import { headerOf, padding, type KeyEntry } from './layout.ts';

export interface TensorSource {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  /** The tensor's bytes in order; asked for once, when its turn comes. Together exactly the size of the tensor. */
  readonly data: () => Iterable<Uint8Array>;
}

/** Replaces `path`. Memory: one piece of data at a time. A fault leaves an incomplete file: write elsewhere and rename. */
export async function writeGguf(
  path: string,
  keys: readonly KeyEntry[],
  tensors: readonly TensorSource[],
): Promise<void> {
  const handle = await open(path, 'w', 0o600);
  try {
    for (const segment of headerOf(keys, tensors).segments) {
      if (segment.from !== 'memory')
        throw new Error('a new file can’t take values from another one');
      await handle.writeFile(segment.data);
    }
    for (const tensor of tensors) {
      const bytes = tensorBytes(tensor.type, tensor.shape);
      let written = 0;
      for (const piece of tensor.data()) {
        written += piece.byteLength;
        await handle.writeFile(piece);
      }
      if (written !== bytes)
        throw new Error(`${tensor.name}: ${written} bytes of data for a tensor of ${bytes}`);
      await handle.writeFile(new Uint8Array(padding(bytes)));
    }
  } finally {
    await handle.close();
  }
}
