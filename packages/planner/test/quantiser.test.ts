/** Known shapes against llama.cpp: its quantiser's own dry run says which type each tensor gets. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { quantizeDryRun } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FILE_TYPES, fileTypesOf, shapeModel, SHAPES, type FileType } from '../src/index.ts';
import { headerFile } from './header-file.ts';

/** Every type with `MINIKEEP_LONG=1`, which takes some seconds more. */
const LONG = process.env['MINIKEEP_LONG'] === '1';
const OFTEN: ReadonlySet<FileType> = new Set(['Q2_K', 'Q3_K_M', 'Q4_K_M', 'MXFP4']);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-shapes-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

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
    const file = await headerFile(folder, shape, 'source');
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
