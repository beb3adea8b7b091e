/** A correct model file of any size that takes no disk: its weights are a hole. */
import { layOut, type Segment } from '@minikeep/gguf';
import { llama, vocabularyKeys, type Dimensions } from '@minikeep/testkit';
import { ggmlType } from '@minikeep/gguf';
import { open } from 'node:fs/promises';

const bytesOf = (segment: Segment): number =>
  segment.from === 'memory' ? segment.data.byteLength : segment.bytes;

/** Writes a llama of these dimensions, F32. Resolves with its size. */
export async function writeSparseModel(
  file: string,
  dimensions: Dimensions,
  layers: number,
): Promise<number> {
  const recipe = llama(dimensions, layers, { tied: false, ropeFrequencies: false });
  const type = ggmlType('F32');
  const tensors = recipe.tensors.map(({ name, shape }) => ({
    name,
    shape,
    type,
    data: { from: 'zeros', bytes: shape.reduce((n, d) => n * d, 4) } as const,
  }));
  const { segments, bytes } = layOut(
    [...recipe.keys, ...vocabularyKeys(dimensions.vocabulary)],
    tensors,
  );
  const handle = await open(file, 'w');
  try {
    await handle.truncate(bytes);
    let at = 0;
    for (const segment of segments) {
      if (segment.from === 'memory') await handle.write(segment.data, 0, undefined, at);
      at += bytesOf(segment);
    }
  } finally {
    await handle.close();
  }
  return bytes;
}
