/**
 * What a GGUF file is to the rest of minikeep, after every byte of its header was checked.
 * A Model holds no open file and no weights: only where things are.
 */
import type { GgmlType } from './ggml-types.ts';

export const SCALAR_TYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'bool',
  'string',
  'array',
  'uint64',
  'int64',
  'float64',
] as const;

/** Names in the order of their numbers in the file. */
export type ValueType = (typeof SCALAR_TYPES)[number];
export type ElementType = Exclude<ValueType, 'array'>;

/** 64-bit integers are bigint, so that none is rounded; text is decoded leniently (a broken byte becomes U+FFFD). */
export type Scalar = number | bigint | boolean | string;

/** Where raw bytes lie: file index in `Model.files`, byte offset, length in bytes. */
export interface FileRange {
  readonly file: number;
  readonly offset: number;
  readonly bytes: number;
}

interface ValueBase {
  /** The value's bytes in the file, without its key and type number. */
  readonly range: FileRange;
}

export interface ScalarValue extends ValueBase {
  readonly type: ElementType;
  readonly value: Scalar;
}

export interface ArrayValue extends ValueBase {
  readonly type: 'array';
  readonly of: ElementType;
  readonly count: number;
  /** The elements of a short array; undefined for a long one (a vocabulary), which stays in the file. */
  readonly value: readonly Scalar[] | undefined;
}

export type MetadataValue = ScalarValue | ArrayValue;

export interface TensorInfo {
  readonly name: string;
  readonly type: GgmlType;
  /** 1 to 4 dimensions; shape[0] is the row length. */
  readonly shape: readonly number[];
  /** Index in `Model.files`. */
  readonly file: number;
  /** Absolute byte offset of the data in that file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface ModelFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Nanoseconds; with the size it tells whether the file was changed since it was checked. */
  readonly modifiedNs: bigint;
}

export interface Model {
  /** The path that was asked for, absolute. */
  readonly path: string;
  /** One file, or the parts of a split one in order. */
  readonly files: readonly ModelFile[];
  /** In file order. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** `general.architecture`. */
  readonly architecture: string;
  /** All files together. */
  readonly sizeBytes: number;
}
