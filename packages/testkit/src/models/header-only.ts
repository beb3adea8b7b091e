/** GGUF files of real dimensions without their weights: the data is a hole, so a terabyte takes some kilobytes. */
import { open } from 'node:fs/promises';
import { headerOf, tensorBytes, type GgmlType, type KeyEntry } from '@minikeep/gguf';

export interface HeaderTensor {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
}

/** Replaces `path`. Whoever reads the weights reads zeros. */
export async function writeHeaderOnly(
  path: string,
  keys: readonly KeyEntry[],
  tensors: readonly HeaderTensor[],
): Promise<void> {
  const header = headerOf(keys, tensors);
  const handle = await open(path, 'w', 0o600);
  try {
    for (const segment of header.segments) {
      if (segment.from !== 'memory') throw new Error('a header’s values are made here');
      await handle.writeFile(segment.data);
    }
    // Every tensor begins at a multiple of 32 bytes.
    const data = tensors.reduce(
      (sum, { type, shape }) => sum + Math.ceil(tensorBytes(type, shape) / 32) * 32,
      0,
    );
    await handle.truncate(header.bytes + data);
  } finally {
    await handle.close();
  }
}
