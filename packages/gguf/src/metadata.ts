/** Typed look-ups in a model's metadata. Files write the same key as u32, i32 or u64; callers want a number. */
import { MinikeepError } from '@minikeep/protocol';
import { printable } from './faults.ts';
import type { MetadataValue, Model, Scalar } from './types.ts';

/** The key of the model's own architecture: `llama.block_count` for 'block_count'. */
export const archKey = (model: Model, name: string): string => `${model.architecture}.${name}`;

/** An integer from 0 to 2^53, or undefined if the key is absent. Throws `gguf.value` for anything else. */
export function integerOf(model: Model, key: string): number | undefined {
  const entry = model.metadata.get(key);
  if (entry === undefined) return undefined;
  const number = entry.type === 'array' ? undefined : asInteger(entry.value);
  if (number === undefined || number < 0) throw wrong(model, key, entry, 'a whole number');
  return number;
}

/** The elements of a list of integers from 0 to 2^53; empty if the key is absent. Throws `gguf.value` for anything else. */
export function integersOf(model: Model, key: string): readonly number[] {
  const entry = model.metadata.get(key);
  if (entry === undefined) return [];
  const values = entry.type === 'array' ? entry.value?.map(asInteger) : undefined;
  const found = values?.filter((value) => value !== undefined && value >= 0);
  if (found === undefined || found.length !== values?.length)
    throw wrong(model, key, entry, 'a short list of whole numbers');
  return found as readonly number[];
}

/** As `integerOf`, within limits, and the key must be there. */
export function requiredInteger(model: Model, key: string, min: number, max: number): number {
  const value = integerOf(model, key);
  if (value !== undefined && value >= min && value <= max) return value;
  throw new MinikeepError(
    'gguf.value',
    `${printable(model.path, 1000)}: '${key}' is ${value ?? 'absent'}; it has to be from ${min} to ${max}`,
    {
      next: 'The file is damaged or incomplete: fetch it again.',
      details: {
        path: model.path,
        key,
        ...(value === undefined ? {} : { offset: model.metadata.get(key)?.range.offset ?? 0 }),
      },
    },
  );
}

/** A finite number, or undefined if the key is absent. */
export function numberOf(model: Model, key: string): number | undefined {
  const entry = model.metadata.get(key);
  if (entry === undefined) return undefined;
  const number =
    entry.type === 'array' || typeof entry.value === 'string' || typeof entry.value === 'boolean'
      ? Number.NaN
      : Number(entry.value);
  if (!Number.isFinite(number)) throw wrong(model, key, entry, 'a number');
  return number;
}

export function textOf(model: Model, key: string): string | undefined {
  const entry = model.metadata.get(key);
  if (entry === undefined) return undefined;
  if (entry.type !== 'string') throw wrong(model, key, entry, 'a text');
  return String(entry.value);
}

function asInteger(value: Scalar): number | undefined {
  if (typeof value !== 'number' && typeof value !== 'bigint') return undefined;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

function wrong(model: Model, key: string, entry: MetadataValue, wanted: string): MinikeepError {
  return new MinikeepError(
    'gguf.value',
    `${printable(model.path, 1000)}: '${key}' has the type ${entry.type}; it has to be ${wanted}`,
    {
      next: 'The file is damaged or was written by a faulty tool: fetch it again.',
      details: { path: model.path, key, offset: entry.range.offset },
    },
  );
}
