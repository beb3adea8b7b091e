/** Known shapes against llama.cpp: its quantiser's own dry run says which type each tensor gets. */
import { mkdtemp, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ggmlType, scalarKey } from '@minikeep/gguf';
import { quantizeDryRun, writeHeaderOnly } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  FILE_TYPES,
  fileTypesOf,
  numbersOf,
  shapeModel,
  SHAPES,
  tensorsOf,
  type FileType,
  type Shape,
} from '../src/index.ts';

/** Every type with `MINIKEEP_LONG=1`, which takes some seconds more. */
const LONG = process.env['MINIKEEP_LONG'] === '1';
const OFTEN: ReadonlySet<FileType> = new Set(['Q2_K', 'Q3_K_M', 'Q4_K_M', 'MXFP4']);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-shapes-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The file that a converter would make, in F16, without its weights. */
async function header(shape: Shape): Promise<string> {
  const file = path.join(folder, `${shape.name}.gguf`);
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
    tensorsOf(shape).map(({ name, shape: dimensions, kind }) => ({
      name,
      type: ggmlType(kind === 'plain' ? 'F32' : 'F16'),
      shape: dimensions,
    })),
  );
  return file;
}

/** "[ 2/ 1086] output.weight - [ 7168, 129280, 1, 1], type = f16, size = 1767.500 MiB -> 724.95 MiB (q6_K)". */
const LINE = /\[ *\d+\/ *\d+\] +(\S+) +-.*?type = +(\w+),(.*)/g;

/** Upper-case type of each tensor. */
function typesIn(log: string): Map<string, string> {
  return new Map(
    [...log.matchAll(LINE)].map(([, name = '', before = '', rest = '']) => [
      name,
      (/-> .*\((\w+)\)/.exec(rest)?.[1] ?? before).toUpperCase(),
    ]),
  );
}

describe('llama.cpp’s quantiser gives each tensor the type that the shape says', () => {
  it.each(SHAPES.map((shape) => [shape.name, shape] as const))('%s', async (_, shape) => {
    const file = await header(shape);
    for (const fileType of fileTypesOf(shape).filter((type) => LONG || OFTEN.has(type))) {
      const theirs = typesIn(quantizeDryRun(file, FILE_TYPES[fileType]));
      const { tensors } = shapeModel({ shape, fileType });
      expect(theirs.size).toBe(tensors.size);
      const different = [...tensors.values()].flatMap(({ name, type }) =>
        theirs.get(name) === type.name
          ? []
          : [`${fileType}: ${name} ${theirs.get(name)} not ${type.name}`],
      );
      expect(different.slice(0, 5)).toEqual([]);
    }
  });
});
