/** Logits of one side kept for the other: on disk, because a large vocabulary fills memory in a few hundred rows. */
import { open, type FileHandle } from 'node:fs/promises';
import { MinikeepError, type ResultFrame } from '@minikeep/protocol';
import type { StepInput } from './pipeline.ts';

/** The logits of a step's rows in the order of its spans. Throws `check.logits` if a row is missing. */
export function rowsOf(step: StepInput, result: ResultFrame, vocabSize: number): Float32Array[] {
  const byRow = new Map<string, Float32Array>();
  for (const output of result.outputs)
    if (output.logits.length > 0) byRow.set(`${output.seq}/${output.position}`, output.logits);
  const rows: Float32Array[] = [];
  for (const { seq, position, count } of step.spans)
    for (let i = 0; i < count; i++) {
      const row = byRow.get(`${seq}/${position + i}`);
      if (row?.length !== vocabSize)
        throw new MinikeepError(
          'check.logits',
          `the engine returned ${row?.length ?? 'no'} logits for sequence ${seq}, position ${position + i}`,
          { next: 'This is a fault in minikeep: report it with the model’s name.' },
        );
      rows.push(row);
    }
  return rows;
}

const asBytes = (row: Float32Array): Uint8Array =>
  new Uint8Array(row.buffer, row.byteOffset, row.byteLength);

/** Rows of f32 in a file, written once and read in the same order. */
export class LogitsFile {
  readonly #handle: FileHandle;
  readonly #vocabSize: number;

  private constructor(handle: FileHandle, vocabSize: number) {
    this.#handle = handle;
    this.#vocabSize = vocabSize;
  }

  static async create(path: string, vocabSize: number): Promise<LogitsFile> {
    return new LogitsFile(await open(path, 'wx+', 0o600), vocabSize);
  }

  async append(rows: readonly Float32Array[]): Promise<void> {
    // Unlike `write` it goes on until all is written, or says that the disk is full.
    for (const row of rows) await this.#handle.writeFile(asBytes(row));
  }

  async read(index: number): Promise<Float32Array> {
    const row = new Float32Array(this.#vocabSize);
    const { bytesRead } = await this.#handle.read(
      asBytes(row),
      0,
      row.byteLength,
      index * row.byteLength,
    );
    if (bytesRead !== row.byteLength) throw new Error(`row ${index} of the reference is not there`);
    return row;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

export interface Difference {
  /** Every bit the same. */
  readonly identical: boolean;
  /** Largest absolute difference; Infinity where a number stands against none. */
  readonly max: number;
  /** Largest logit, absolute: shows that something was computed. */
  readonly magnitude: number;
}

/** Compares bit by bit: 0 and -0 differ, two equal NaNs do not. */
export function differenceOf(a: Float32Array, b: Float32Array): Difference {
  if (a.length !== b.length) return { identical: false, max: Infinity, magnitude: 0 };
  const [bitsA, bitsB] = [
    new Uint32Array(a.buffer, a.byteOffset, a.length),
    new Uint32Array(b.buffer, b.byteOffset, b.length),
  ];
  let identical = true;
  let max = 0;
  let magnitude = 0;
  for (let i = 0; i < a.length; i++) {
    const value = Math.abs(a[i] as number);
    if (value > magnitude) magnitude = value;
    if (bitsA[i] === bitsB[i]) continue;
    identical = false;
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    max = Number.isNaN(difference) ? Infinity : Math.max(max, difference);
  }
  return { identical, max, magnitude };
}
