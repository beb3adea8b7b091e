/** A known shape as a file without weights, for llama.cpp to look at. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ggmlType, scalarKey } from '@minikeep/gguf';
import { writeHeaderOnly } from '@minikeep/testkit';
import { numbersOf, shapeModel, tensorsOf, type FileType, type Shape } from '../src/index.ts';

/** As its converter makes it ('source': F16) or as the quantiser does. Returns its path in `folder`. */
export async function headerFile(
  folder: string,
  shape: Shape,
  as: FileType | 'source',
): Promise<string> {
  const file = path.join(folder, `${shape.name}@${as}.gguf`);
  if (existsSync(file)) return file;
  const { architecture } = shape;
  await writeHeaderOnly(
    file,
    [
      scalarKey('general.architecture', 'string', architecture),
      scalarKey('tokenizer.ggml.model', 'string', 'no_vocab'),
      scalarKey(`${architecture}.vocab_size`, 'uint32', shape.vocabulary),
      scalarKey(`${architecture}.attention.layer_norm_rms_epsilon`, 'float32', 1e-6),
      scalarKey(`${architecture}.expert_weights_scale`, 'float32', 2.5),
      ...Object.entries(numbersOf(shape)).map(([key, value]) =>
        scalarKey(`${architecture}.${key}`, 'uint32', value),
      ),
    ],
    as === 'source'
      ? tensorsOf(shape).map(({ name, shape: dimensions, kind }) => ({
          name,
          type: ggmlType(kind === 'plain' ? 'F32' : 'F16'),
          shape: dimensions,
        }))
      : [...shapeModel({ shape, fileType: as }).tensors.values()],
  );
  return file;
}
