/** The reader against files that are right, wrong in one place, or hostile. */
import { expect, test } from 'vitest';
import { MinikeepError } from '@minikeep/protocol';
import { MemorySource, parseHeader } from '../src/index.ts';
import * as limits from '../src/limits.ts';
import {
  big,
  concat,
  encodeText,
  key,
  list,
  makeFile,
  record,
  start,
  tensor,
  u32,
} from './support.ts';

const parse = (bytes: Uint8Array) => parseHeader(new MemorySource(bytes));

async function faultOf(bytes: Uint8Array): Promise<{ code: string; offset: number }> {
  try {
    await parse(bytes);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(MinikeepError);
    const { code, details, next } = thrown as MinikeepError;
    expect(next).not.toBe('');
    return { code, offset: Number(details['offset']) };
  }
  throw new Error('the file was accepted');
}

test('reads every type of value and the places of the tensors', async () => {
  const keys = [
    key('a.u8', 'uint8', 200),
    key('a.i8', 'int8', -5),
    key('a.u16', 'uint16', 60_000),
    key('a.i16', 'int16', -300),
    key('a.u32', 'uint32', 4e9),
    key('a.i32', 'int32', -4),
    key('a.f32', 'float32', 0.5),
    key('a.u64', 'uint64', 2n ** 63n),
    key('a.i64', 'int64', -(2n ** 62n)),
    key('a.f64', 'float64', Math.PI),
    key('a.yes', 'bool', true),
    key('a.text', 'string', 'grüße\n'),
    list('a.list', 'string', ['x', '', 'ü']),
    list('a.empty', 'uint32', []),
    list(
      'a.long',
      'uint8',
      Array.from({ length: 5000 }, (_, i) => i & 255),
    ),
  ];
  const file = makeFile(keys, [tensor('one', [4, 3]), tensor('two', [64], 9, 'Q8_0')]);
  const header = await parse(file);
  const value = (name: string) => header.metadata.get(name)?.value;
  expect(value('a.u8')).toBe(200);
  expect(value('a.i8')).toBe(-5);
  expect(value('a.u16')).toBe(60_000);
  expect(value('a.i16')).toBe(-300);
  expect(value('a.u32')).toBe(4e9);
  expect(value('a.i32')).toBe(-4);
  expect(value('a.f32')).toBe(0.5);
  expect(value('a.u64')).toBe(2n ** 63n);
  expect(value('a.i64')).toBe(-(2n ** 62n));
  expect(value('a.f64')).toBe(Math.PI);
  expect(value('a.yes')).toBe(true);
  expect(value('a.text')).toBe('grüße\n');
  expect(value('a.list')).toEqual(['x', '', 'ü']);
  expect(value('a.empty')).toEqual([]);
  expect(header.metadata.get('a.long')).toMatchObject({ count: 5000, value: undefined });
  const [one, two] = header.tensors;
  expect(one).toMatchObject({ name: 'one', shape: [4, 3], bytes: 48, offset: header.dataOffset });
  expect(two).toMatchObject({ name: 'two', bytes: 68, offset: header.dataOffset + 64 });
  expect(file.subarray(two!.offset, two!.offset + 68)).toEqual(tensor('two', [64], 9, 'Q8_0').data);
});

test('broken UTF-8 in a value is kept readable, in a name it is an error', async () => {
  const value = concat([start(0, 1), encodeText('a'), u32(8), big(2), Uint8Array.of(0xff, 0x41)]);
  expect((await parse(value)).metadata.get('a')?.value).toBe('\u{fffd}A');
  const name = concat([start(0, 1), big(2), Uint8Array.of(0xff, 0x41), u32(0), Uint8Array.of(1)]);
  expect(await faultOf(name)).toEqual({ code: 'gguf.text', offset: 32 });
});

const oneKey = (type: number, ...rest: Uint8Array[]) =>
  concat([start(0, 1), encodeText('a'), u32(type), ...rest, new Uint8Array(64)]);
const oneTensor = (...parts: Uint8Array[]) => concat([start(1, 0), ...parts, new Uint8Array(4096)]);
const KEY_VALUE = 24 + 9 + 4;
const RECORD = 24;

test.each<[string, Uint8Array, string, number]>([
  ['an empty file', new Uint8Array(0), 'gguf.empty', 0],
  ['three bytes', Uint8Array.of(71, 71, 85), 'gguf.truncated', 0],
  ['another format', new Uint8Array(100).fill(80), 'gguf.not_gguf', 0],
  ['version 1', start(0, 0, 1), 'gguf.version', 4],
  ['version 4', start(0, 0, 4), 'gguf.version', 4],
  ['a big-endian file', start(0, 0, 3 << 24), 'gguf.endianness', 4],
  ['2^63 tensors', start(2n ** 63n, 0), 'gguf.limit', 8],
  ['2^64 - 1 tensors', start(2n ** 64n - 1n, 0), 'gguf.limit', 8],
  ['2^63 keys', start(0, 2n ** 63n), 'gguf.limit', 16],
  ['more keys than the file can hold', start(0, 1000), 'gguf.truncated', 8],
  [
    'a key of 2^63 bytes',
    concat([start(0, 1), big(2n ** 63n), new Uint8Array(64)]),
    'gguf.limit',
    24,
  ],
  ['an empty key', concat([start(0, 1), big(0), u32(0), new Uint8Array(64)]), 'gguf.key', 24],
  [
    'a key with a control character',
    concat([start(0, 1), encodeText('a\u001b[2J'), u32(0), new Uint8Array(64)]),
    'gguf.text',
    32,
  ],
  [
    'a key twice',
    concat([start(0, 2), ...[1, 2].flatMap(() => [encodeText('a'), u32(0), Uint8Array.of(1)])]),
    'gguf.key',
    24 + 14,
  ],
  ['an unknown type of value', oneKey(13), 'gguf.value_type', KEY_VALUE - 4],
  ['a bool of 2', oneKey(7, Uint8Array.of(2)), 'gguf.value', KEY_VALUE],
  ['a text of 2^63 bytes', oneKey(8, big(2n ** 63n)), 'gguf.limit', KEY_VALUE],
  ['a text longer than the file', oneKey(8, big(100)), 'gguf.truncated', KEY_VALUE + 8],
  ['a list of lists', oneKey(9, u32(9), big(1)), 'gguf.value_type', KEY_VALUE],
  ['a list of an unknown type', oneKey(9, u32(77), big(1)), 'gguf.value_type', KEY_VALUE],
  ['a list of 2^63', oneKey(9, u32(4), big(2n ** 63n)), 'gguf.limit', KEY_VALUE + 4],
  [
    'a list longer than the file',
    oneKey(9, u32(4), big(100_000)),
    'gguf.truncated',
    KEY_VALUE + 12,
  ],
  [
    'a text of 2^63 in a long list',
    concat([
      start(0, 1),
      encodeText('a'),
      u32(9),
      u32(8),
      big(limits.ARRAY_HELD_COUNT_MAX + 1),
      big(2n ** 63n),
      new Uint8Array(20_000),
    ]),
    'gguf.limit',
    KEY_VALUE + 12,
  ],
  [
    'an alignment of 3',
    concat([start(0, 1), encodeText('general.alignment'), u32(4), u32(3)]),
    'gguf.alignment',
    24 + 8 + 17 + 4,
  ],
  [
    'an alignment of 0',
    concat([start(0, 1), encodeText('general.alignment'), u32(4), u32(0)]),
    'gguf.alignment',
    24 + 8 + 17 + 4,
  ],
  ['a tensor without a name', oneTensor(record('', [4], 0, 0)), 'gguf.tensor_name', RECORD],
  [
    'a tensor’s name of 64 bytes',
    oneTensor(record('n'.repeat(64), [4], 0, 0)),
    'gguf.limit',
    RECORD,
  ],
  ['a tensor without dimensions', oneTensor(record('t', [], 0, 0)), 'gguf.shape', RECORD],
  ['a tensor of 5 dimensions', oneTensor(record('t', [1, 1, 1, 1, 1], 0, 0)), 'gguf.shape', RECORD],
  ['a dimension of 0', oneTensor(record('t', [4, 0], 0, 0)), 'gguf.shape', RECORD],
  ['a dimension of 2^63', oneTensor(record('t', [2n ** 63n], 0, 0)), 'gguf.shape', RECORD],
  ['a product beyond 2^53', oneTensor(record('t', [2 ** 30, 2 ** 30], 0, 0)), 'gguf.shape', RECORD],
  ['a removed tensor type', oneTensor(record('t', [32], 4, 0)), 'gguf.tensor_type', RECORD],
  ['an unknown tensor type', oneTensor(record('t', [32], 43, 0)), 'gguf.tensor_type', RECORD],
  ['rows that are no whole blocks', oneTensor(record('t', [33], 8, 0)), 'gguf.shape', RECORD],
  ['an offset off the alignment', oneTensor(record('t', [4], 0, 16)), 'gguf.alignment', RECORD],
  ['an offset of 2^63', oneTensor(record('t', [4], 0, 2n ** 63n)), 'gguf.truncated', RECORD],
  ['a tensor beyond the end', oneTensor(record('t', [4096], 0, 0)), 'gguf.truncated', RECORD],
  [
    'a tensor twice',
    concat([start(2, 0), record('t', [4], 0, 0), record('t', [4], 0, 32), new Uint8Array(256)]),
    'gguf.tensor_duplicate',
    RECORD + 8 + 1 + 4 + 8 + 4 + 8,
  ],
  [
    'two tensors at one place',
    concat([start(2, 0), record('t', [4], 0, 0), record('u', [4], 0, 0), new Uint8Array(256)]),
    'gguf.overlap',
    RECORD + 8 + 1 + 4 + 8 + 4 + 8,
  ],
  [
    'a tensor that reaches into the next one',
    concat([start(2, 0), record('u', [16], 0, 32), record('t', [16], 0, 0), new Uint8Array(256)]),
    'gguf.overlap',
    RECORD,
  ],
])('refuses %s', async (_name, bytes, code, offset) => {
  expect(await faultOf(bytes)).toEqual({ code, offset });
});

test('a file cut at any byte of its header, or inside its last tensor, is refused', async () => {
  const keys = [
    key('general.architecture', 'string', 'llama'),
    list('a.texts', 'string', ['one', 'two']),
    list('a.numbers', 'uint16', [1, 2, 3]),
    key('a.flag', 'bool', false),
    key('a.big', 'uint64', 7n),
  ];
  const file = makeFile(keys, [tensor('one', [4, 3]), tensor('two', [8])]);
  const { tensors } = await parse(file);
  const end = tensors[1]!.offset + tensors[1]!.bytes;
  for (let length = 1; length < end; length++)
    expect((await faultOf(file.subarray(0, length))).code, `${length} bytes`).toBe(
      'gguf.truncated',
    );
  await expect(parse(file.subarray(0, end))).resolves.toBeDefined();
});
