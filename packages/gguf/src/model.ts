/**
 * Opens a model: one GGUF file, or all parts of a split one, as a single thing. Only headers are read.
 */
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { fileFault, printable } from './faults.ts';
import { parseHeader, type Header } from './header.ts';
import { SPLIT_PARTS_MAX, TENSORS_MAX } from './limits.ts';
import { FileSource } from './source.ts';
import type { Model, ModelFile, TensorInfo } from './types.ts';

/** `name-00001-of-00003.gguf` → the name, this part, all parts. */
const SPLIT_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;

interface Part {
  readonly file: ModelFile;
  readonly header: Header;
}

/** What stays in memory of a part: the model's keys are in the first. */
interface Piece {
  readonly file: ModelFile;
  readonly tensors: readonly TensorInfo[];
}

/**
 * Reads and checks a model's header. Any part of a split model names the whole of it.
 * Throws `gguf.*` with the byte offset in its details. Memory: a few times the header's small values, never the file.
 */
export async function openModel(file: string): Promise<Model> {
  const asked = path.resolve(file);
  const named = await readPart(asked, 0);
  const count = splitCount(named);
  if (count <= 1) return join(asked, named, [pieceOf(named)]);
  const match = SPLIT_NAME.exec(path.basename(asked));
  if (match === null || Number(match[3]) !== count)
    throw fault(
      'split_name',
      `${printable(asked)} is one of ${count} parts, but its name does not say so`,
      `Give the parts their names back: model-00001-of-${String(count).padStart(5, '0')}.gguf and so on.`,
    );
  let first: Part | undefined;
  const pieces: Piece[] = [];
  let tensors = 0;
  for (let i = 0; i < count; i++) {
    const name = `${match[1]}-${String(i + 1).padStart(5, '0')}-of-${match[3]}.gguf`;
    const part = await readPart(path.join(path.dirname(asked), name), i, true);
    checkPart(part, i, count);
    tensors += part.header.tensors.length;
    if (tensors > TENSORS_MAX)
      throw fileFault(
        'limit',
        part.file.path,
        0,
        `more than ${TENSORS_MAX} tensors up to this part`,
      );
    first ??= part;
    pieces.push(pieceOf(part));
  }
  return join(asked, first ?? named, pieces);
}

const pieceOf = ({ file, header }: Part): Piece => ({ file, tensors: header.tensors });

async function readPart(file: string, index: number, ofSplit = false): Promise<Part> {
  let source: FileSource;
  try {
    source = await FileSource.open(file);
  } catch (thrown) {
    if (ofSplit && thrown instanceof MinikeepError && thrown.code === 'gguf.not_found')
      throw fault(
        'split_missing',
        `a part of this split model is missing: ${printable(file, 1000)}`,
        'Put all parts into one folder under their own names.',
      );
    throw thrown;
  }
  try {
    return { file: source.file, header: await parseHeader(source, index) };
  } finally {
    await source.close();
  }
}

function integer(header: Header, key: string): number | undefined {
  const entry = header.metadata.get(key);
  if (entry === undefined || entry.type === 'array') return undefined;
  return typeof entry.value === 'number' && Number.isInteger(entry.value) ? entry.value : undefined;
}

function splitCount(part: Part): number {
  const count = integer(part.header, 'split.count') ?? 0;
  if (count < 0 || count > SPLIT_PARTS_MAX)
    throw fileFault(
      'limit',
      part.file.path,
      0,
      `split.count is ${count}, the limit is ${SPLIT_PARTS_MAX}`,
    );
  return count;
}

function checkPart(part: Part, index: number, count: number): void {
  if (integer(part.header, 'split.no') !== index || splitCount(part) !== count)
    throw fault(
      'split_mismatch',
      `${printable(part.file.path, 1000)} is not part ${index + 1} of ${count} of this model`,
      'Fetch all parts again from one place, and keep their names.',
    );
}

function join(asked: string, first: Part, pieces: readonly Piece[]): Model {
  const { metadata } = first.header;
  const tensors = new Map<string, TensorInfo>();
  for (const part of pieces)
    for (const tensor of part.tensors) {
      if (tensors.has(tensor.name))
        throw fileFault(
          'tensor_duplicate',
          part.file.path,
          tensor.offset,
          `the tensor '${printable(tensor.name)}' is also in another part`,
        );
      tensors.set(tensor.name, tensor);
    }
  const announced = pieces.length > 1 ? integer(first.header, 'split.tensors.count') : undefined;
  if (announced !== undefined && announced !== tensors.size)
    throw fault(
      'split_mismatch',
      `the parts hold ${tensors.size} tensors, the first one announces ${announced}`,
      'Fetch all parts again from one place.',
    );
  return {
    path: asked,
    files: pieces.map((part) => part.file),
    metadata,
    tensors,
    architecture: architectureName(first),
    sizeBytes: pieces.reduce((sum, part) => sum + part.file.sizeBytes, 0),
  };
}

function architectureName(part: Part): string {
  const entry = part.header.metadata.get('general.architecture');
  if (entry?.type === 'string' && /^[a-z0-9][a-z0-9._-]{0,63}$/i.test(String(entry.value)))
    return String(entry.value);
  throw fileFault(
    'architecture_missing',
    part.file.path,
    entry?.range.offset ?? 0,
    'general.architecture is absent or not a name',
    'Use a complete model file; a LoRA adapter or an imatrix file can’t be run.',
  );
}

function fault(code: string, message: string, next: string): MinikeepError {
  return new MinikeepError(`gguf.${code}`, message, { next });
}
