/** A known shape at a quantisation as a model: what openModel would say about its file, without a file. */
import {
  tensorBytes,
  type MetadataValue,
  type Model,
  type ModelFile,
  type TensorInfo,
} from '@minikeep/gguf';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { FILE_TYPE_NAMES, typeOf, type FileType } from './file-types.ts';
import { SHAPES } from './published.ts';
import type { Shape } from './shape.ts';
import { numbersOf, tensorsOf } from './tensors.ts';

const SEPARATOR = '@';
const NAMES_SHOWN_MAX = 40;
/** Tensors begin at multiples of this in a file. */
const ALIGNMENT = 32;
const NOWHERE = { file: 0, offset: 0, bytes: 0 };

export interface KnownShape {
  readonly shape: Shape;
  readonly fileType: FileType;
}

/** "deepseek-r1-671b@Q4_K_M". */
export const shapeName = ({ shape, fileType }: KnownShape): string =>
  `${shape.name}${SEPARATOR}${fileType}`;

/** Names of all known shapes, without a quantisation. */
export const shapeNames = (): string[] => SHAPES.map(({ name }) => name);

export function fileTypesOf(shape: Shape): readonly FileType[] {
  return shape.only === undefined
    ? FILE_TYPE_NAMES.filter((name) => name !== 'MXFP4' && name !== 'F32')
    : [shape.only];
}

/** Could `text` be meant as the name of a shape? */
export const looksLikeShape = (text: string): boolean =>
  text.includes(SEPARATOR) || SHAPES.some(({ name }) => name === text.toLowerCase());

/**
 * The shape of that name; letters' case doesn't matter. Error `model.unknown_shape`: with what there is.
 */
export function knownShape(text: string): KnownShape {
  const [name = '', type, ...rest] = text.split(SEPARATOR);
  const shape = SHAPES.find((known) => known.name === name.toLowerCase());
  if (shape === undefined || rest.length > 0)
    throw new MinikeepError('model.unknown_shape', `no published model is known as "${text}"`, {
      next: `Known: ${shapeNames().slice(0, NAMES_SHOWN_MAX).join(', ')}; each with @ and a quantisation.`,
      exitCode: EXIT.usage,
    });
  const types = fileTypesOf(shape);
  const fileType = types.find((known) => known === (type ?? shape.only)?.toUpperCase());
  if (fileType === undefined)
    throw new MinikeepError(
      'model.unknown_shape',
      type === undefined
        ? `${name} has many quantisations`
        : `"${type}" is no quantisation that ${name} is known with`,
      {
        next: `Say which: ${types.map((known) => `${shape.name}${SEPARATOR}${known}`).join(', ')}`,
        exitCode: EXIT.usage,
      },
    );
  return { shape, fileType };
}

/** Its header, as if the file were there: `path` is the name, offsets follow each other. */
export function shapeModel(known: KnownShape): Model {
  const { shape, fileType } = known;
  const tensors = new Map<string, TensorInfo>();
  let offset = 0;
  for (const tensor of tensorsOf(shape)) {
    const type = typeOf(tensor, shape, fileType);
    const bytes = tensorBytes(type, tensor.shape);
    const { name } = tensor;
    tensors.set(name, { name, type, shape: tensor.shape, file: 0, offset, bytes });
    offset += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  }
  const path = shapeName(known);
  const files: readonly ModelFile[] = [{ path, sizeBytes: offset, modifiedNs: 0n }];
  const { architecture } = shape;
  const text = (value: string): MetadataValue => ({ type: 'string', value, range: NOWHERE });
  const metadata = new Map<string, MetadataValue>([
    ['general.architecture', text(architecture)],
    ['general.name', text(shape.name)],
    ...Object.entries(numbersOf(shape)).map(([key, value]): [string, MetadataValue] => [
      `${architecture}.${key}`,
      { type: 'uint32', value, range: NOWHERE },
    ]),
  ]);
  return { path, files, metadata, tensors, architecture, sizeBytes: offset };
}

/** How many numbers the model has, MTP blocks included. */
export function parametersOf(shape: Shape): number {
  return tensorsOf(shape).reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, n) => product * n, 1),
    0,
  );
}
