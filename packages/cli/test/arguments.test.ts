/** What the arguments mean, without starting anything. */
import { MinikeepError } from '@minikeep/protocol';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { knownModels, modelAndPrompt, modelFile } from '../src/models.ts';
import * as read from '../src/options.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'minikeep-cli-'));
const withModel = path.join(scratch, 'a/dist');
const without = path.join(scratch, 'b/dist');
mkdirSync(path.join(scratch, 'a/models'), { recursive: true });
writeFileSync(path.join(scratch, 'a/models/keeper.gguf'), '');
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('run [MODEL] [PROMPT]', () => {
  const known = knownModels(withModel);

  it.each([
    [undefined, undefined, undefined, undefined],
    ['Why is the sky blue?', undefined, undefined, 'Why is the sky blue?'],
    ['keeper', undefined, 'keeper', undefined],
    ['model.gguf', undefined, 'model.gguf', undefined],
    ['./model', undefined, './model', undefined],
    ['and/or', undefined, 'and/or', undefined],
    ['-', undefined, undefined, '-'],
    ['keeper', 'Hello', 'keeper', 'Hello'],
    ['nonsense', 'Hello', 'nonsense', 'Hello'],
  ])('%j %j', (first, second, model, prompt) => {
    expect(modelAndPrompt(first, second, known)).toEqual({ model, prompt });
  });

  const codeOf = (model: string | undefined, dist: string): string => {
    try {
      return modelFile(model, knownModels(dist), dist);
    } catch (error) {
      return error instanceof MinikeepError ? `${error.code} ${error.exitCode}` : String(error);
    }
  };

  it('finds the file, or says what to do', () => {
    expect(codeOf(undefined, withModel)).toBe(path.join(scratch, 'a/models/keeper.gguf'));
    expect(codeOf('keeper', withModel)).toBe(path.join(scratch, 'a/models/keeper.gguf'));
    expect(codeOf('x/y.gguf', withModel)).toBe(path.resolve('x/y.gguf'));
    expect(codeOf('nonsense', withModel)).toBe('model.unknown 2');
    expect(codeOf(undefined, without)).toBe('model.none_embedded 2');
    expect(codeOf('keeper', without)).toBe('model.unknown 2');
  });
});

describe('values of flags', () => {
  it('reads what is in range', () => {
    expect(read.integer(1, 16)('3')).toBe(3);
    expect(read.decimal(0, 2)('.7')).toBe(0.7);
    expect(read.cuts('10, 20')).toEqual([10, 20]);
    expect(read.collect(2, 5)('b', ['a'])).toEqual(['a', 'b']);
  });

  it.each([
    () => read.integer(1, 16)('0'),
    () => read.integer(1, 16)('1.5'),
    () => read.integer(1, 16)('1e1'),
    () => read.integer(1, 16)(''),
    () => read.decimal(0, 2)('NaN'),
    () => read.decimal(0, 2)('2.1'),
    () => read.decimal(0, 2)('0x1'),
    () => read.cuts('20,10'),
    () => read.cuts('0'),
    () => read.cuts('1,,2'),
    () => read.collect(2, 5)('c', ['a', 'b']),
    () => read.collect(2, 5)('', []),
  ])('refuses %s', (run) => {
    expect(run).toThrow(/It (must|can)/);
  });
});
