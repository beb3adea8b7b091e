/** llama.cpp's batch: one block of memory that never moves, filled anew for each call. */
import koffi from 'koffi';
import type { Address } from '../native/abi.ts';
import type { BatchFields } from '../native/binding.ts';

const address = (view: ArrayBufferView): Address => koffi.address(view);

export class Batch {
  readonly fields: BatchFields;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #outputs: Int8Array;
  readonly #sequences: BigUint64Array;
  readonly #tokensAt: Address;
  /** One i32 a sequence id, pointed to by each row of that sequence. */
  readonly #idAddresses: readonly bigint[];
  readonly #positionsPerRow: number;
  /** Kept so that the memory behind the addresses is not collected: nothing else refers to it. */
  protected readonly kept: Readonly<Record<string, Int32Array>>;
  #rows = 0;

  /** Room for `rows` rows of `sequences` sequences; each row takes `positionsPerRow` entries of positions. */
  constructor(rows: number, sequences: number, positionsPerRow: number) {
    this.#tokens = new Int32Array(rows);
    this.#positions = new Int32Array(rows * positionsPerRow);
    this.#outputs = new Int8Array(rows);
    this.#sequences = new BigUint64Array(rows);
    const counts = new Int32Array(rows).fill(1);
    const ids = Int32Array.from({ length: sequences }, (_, i) => i);
    this.kept = { counts, ids };
    const idsAt = address(ids);
    this.#idAddresses = Array.from({ length: sequences }, (_, i) => idsAt + BigInt(4 * i));
    this.#positionsPerRow = positionsPerRow;
    this.#tokensAt = address(this.#tokens);
    this.fields = {
      n_tokens: 0,
      token: this.#tokensAt,
      embd: null,
      pos: address(this.#positions),
      n_seq_id: address(counts),
      seq_id: address(this.#sequences),
      logits: address(this.#outputs),
    };
  }

  /** Starts a call; rows come in as `embd` (an address), or as token ids (null). */
  begin(embd: Address | null): void {
    this.#rows = 0;
    this.fields.embd = embd;
    this.fields.token = embd === null ? this.#tokensAt : null;
  }

  add(token: number, position: number, seq: number, output: boolean): void {
    const row = this.#rows++;
    this.#tokens[row] = token;
    this.#outputs[row] = output ? 1 : 0;
    this.#sequences[row] = this.#idAddresses[seq] ?? 0n;
    this.#positions[row] = position;
  }

  /** Call when all rows are in. Several positions a row lie one kind after the other: all firsts, all seconds, … */
  finish(): BatchFields {
    for (let kind = 1; kind < this.#positionsPerRow; kind++)
      this.#positions.copyWithin(kind * this.#rows, 0, this.#rows);
    this.fields.n_tokens = this.#rows;
    return this.fields;
  }
}
