/** The second half of a header: where each tensor lies, and proof that none leaves the file or touches another. */
import type { HeaderCursor } from './cursor.ts';
import { fileFault, printable } from './faults.ts';
import { GGML_TYPES, tensorBytes } from './ggml-types.ts';
import { DIMENSIONS_MAX, TENSOR_NAME_BYTES_MAX } from './limits.ts';
import type { TensorInfo } from './types.ts';

/** A record in the header, before the data's start is known. */
interface TensorRecord extends Omit<TensorInfo, 'file'> {
  /** Where the record itself lies, for messages. */
  readonly recordOffset: number;
}

/** Reads `count` tensor records and checks them against the file. */
export async function parseTensors(
  cursor: HeaderCursor,
  count: number,
  alignment: number,
  file: number,
): Promise<{ tensors: TensorInfo[]; dataOffset: number }> {
  const records: TensorRecord[] = [];
  const names = new Set<string>();
  for (let i = 0; i < count; i++) {
    const record = await parseRecord(cursor, alignment);
    if (names.has(record.name))
      throw fileFault(
        'tensor_duplicate',
        cursor.source.path,
        record.recordOffset,
        `the tensor '${printable(record.name)}' occurs twice`,
      );
    names.add(record.name);
    records.push(record);
  }
  const dataOffset = Math.ceil(cursor.offset / alignment) * alignment;
  checkPlaces(cursor, records, dataOffset);
  const tensors = records.map(({ recordOffset: _, ...record }) => ({
    ...record,
    file,
    offset: dataOffset + record.offset,
  }));
  return { tensors, dataOffset };
}

async function parseRecord(cursor: HeaderCursor, alignment: number): Promise<TensorRecord> {
  const path = cursor.source.path;
  const recordOffset = cursor.offset;
  const length = await cursor.count(TENSOR_NAME_BYTES_MAX, 'the length of a tensor’s name');
  const name = await cursor.text(length, 'a tensor’s name', 'name');
  const what = `the tensor '${printable(name)}'`;
  if (length === 0) throw fileFault('tensor_name', path, recordOffset, 'a tensor has no name');
  await cursor.need(4, what);
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > DIMENSIONS_MAX)
    throw fileFault('shape', path, recordOffset, `${what} has ${dimensions} dimensions`);
  await cursor.need(dimensions * 8 + 12, what);
  const shape: number[] = [];
  // 2^53 bytes are far beyond any file, and below it every product is an exact number.
  let values = 1n;
  for (let i = 0; i < dimensions; i++) {
    const length = cursor.u64();
    values *= length;
    if (length === 0n || values > BigInt(Number.MAX_SAFE_INTEGER))
      throw fileFault('shape', path, recordOffset, `${what} has an impossible shape`);
    shape.push(Number(length));
  }
  const typeNumber = cursor.u32();
  const type = GGML_TYPES.get(typeNumber);
  if (type === undefined)
    throw fileFault(
      'tensor_type',
      path,
      recordOffset,
      `${what} has the type ${typeNumber}, which llama.cpp v0.4.0 does not know`,
      'Use a file in a current quantisation (F16, Q8_0, Q4_K_M …).',
    );
  if ((shape[0] as number) % type.blockValues !== 0)
    throw fileFault(
      'shape',
      path,
      recordOffset,
      `${what} has rows of ${shape[0]} values, which ${type.name} can’t hold (blocks of ${type.blockValues})`,
    );
  const bytes = tensorBytes(type, shape);
  const offset = cursor.u64();
  if (offset % BigInt(alignment) !== 0n)
    throw fileFault(
      'alignment',
      path,
      recordOffset,
      `${what} is not aligned to ${alignment} bytes`,
    );
  if (offset > BigInt(cursor.source.sizeBytes) || bytes > cursor.source.sizeBytes)
    throw fileFault('truncated', path, recordOffset, `${what} lies outside the file`);
  return { name, type, shape, bytes, offset: Number(offset), recordOffset };
}

function checkPlaces(
  cursor: HeaderCursor,
  records: readonly TensorRecord[],
  dataOffset: number,
): void {
  const { path, sizeBytes } = cursor.source;
  const sorted = records.toSorted((a, b) => a.offset - b.offset);
  let end = 0;
  let before = '';
  for (const record of sorted) {
    const name = printable(record.name);
    if (record.offset < end)
      throw fileFault(
        'overlap',
        path,
        record.recordOffset,
        `the tensors '${before}' and '${name}' overlap`,
      );
    end = record.offset + record.bytes;
    before = name;
    if (dataOffset + end > sizeBytes)
      throw fileFault(
        'truncated',
        path,
        record.recordOffset,
        `the file ends at ${sizeBytes} bytes, inside the tensor '${name}' that needs ${dataOffset + end}`,
        'The download was cut short: fetch the file again and compare its size and SHA-256 with the publisher’s.',
      );
  }
}
