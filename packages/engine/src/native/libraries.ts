/**
 * Which of the engine's shared libraries are which. The agent lists the folder and passes exact paths, because the
 * sandbox lets the engine open files and never a folder.
 */
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { NEXT } from '../next-steps.ts';

export interface EngineLibraries {
  /** libggml-base: tensors, row conversions, log. */
  readonly base: string;
  /** libggml: the registry of backends. */
  readonly ggml: string;
  readonly llama: string;
  /** CPU backends, one for each kind of processor: the best one that runs here is taken. */
  readonly cpu: readonly string[];
  /** Further backends (Metal, BLAS). */
  readonly others: readonly string[];
}

const SUFFIX = '\\.(?:so|dylib)$';
const NAMES = {
  base: new RegExp(`^libggml-base${SUFFIX}`),
  ggml: new RegExp(`^libggml\\.(?:metal\\.)?v[\\d.]+${SUFFIX}`),
  llama: new RegExp(`^libllama\\.(?:metal\\.)?v[\\d.]+${SUFFIX}`),
  cpu: new RegExp(`^libggml-cpu-[\\w-]+${SUFFIX}`),
  other: new RegExp(`^libggml-(?:metal|blas)${SUFFIX}`),
};

/** Sorts absolute library paths into their roles. Throws `engine.library_missing`. */
export function chooseLibraries(files: readonly string[]): EngineLibraries {
  const matching = (pattern: RegExp): string[] =>
    files.filter((file) => pattern.test(path.basename(file))).sort();
  const one = (role: 'base' | 'ggml' | 'llama'): string => {
    const [file] = matching(NAMES[role]);
    if (file === undefined) throw missing(`no library of the kind '${role}'`);
    return file;
  };
  const cpu = matching(NAMES.cpu);
  if (cpu.length === 0) throw missing('no CPU backend');
  return {
    base: one('base'),
    ggml: one('ggml'),
    llama: one('llama'),
    cpu,
    others: matching(NAMES.other),
  };
}

function missing(what: string): MinikeepError {
  return new MinikeepError(
    'engine.library_missing',
    `the engine's libraries are incomplete: ${what}`,
    {
      next: NEXT.copyLibraries,
    },
  );
}
