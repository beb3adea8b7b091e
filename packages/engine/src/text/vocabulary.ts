/** A model's vocabulary through llama.cpp: text to tokens and back. */
import { MinikeepError } from '@minikeep/protocol';
import type { Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import { NEXT } from '../next-steps.ts';

/** Room for any one token; the longest published ones have a few hundred bytes. */
const PIECE_BYTES = 1024;
const PIECE_BYTES_MAX = 1024 * 1024;
const VOCABULARY_NONE = 0;
const ATTRIBUTE = { unknown: 1, control: 8, stripsLeft: 256, stripsRight: 512 } as const;

export interface SpecialToken {
  readonly text: string;
  /** Blanks before (after) it are dropped. */
  readonly stripsLeft: boolean;
  readonly stripsRight: boolean;
}

export class Vocabulary {
  readonly size: number;
  readonly #binding: Binding;
  readonly #vocabulary: Address;
  #room = new Uint8Array(PIECE_BYTES);

  constructor(binding: Binding, model: Address) {
    this.#binding = binding;
    this.#vocabulary = binding.vocabulary(model);
    this.size = binding.vocabularySize(this.#vocabulary);
  }

  /** False for files that carry no tokenizer (random models, slices). */
  get present(): boolean {
    return this.#binding.vocabularyType(this.#vocabulary) !== VOCABULARY_NONE;
  }

  get addsBos(): boolean {
    return this.#binding.addsBos(this.#vocabulary);
  }

  get bos(): number {
    return this.#binding.bos(this.#vocabulary);
  }

  get eos(): number {
    return this.#binding.eos(this.#vocabulary);
  }

  isEog(token: number): boolean {
    return this.present && this.#binding.isEog(this.#vocabulary, token);
  }

  /** A token as it is written in the vocabulary ('<|im_end|>'); empty for none. */
  text(token: number): string {
    if (token < 0 || token >= this.size) return '';
    return this.#binding.tokenText(this.#vocabulary, token) ?? '';
  }

  /**
   * Texts of the tokens that `parseSpecial` alone recognises inside a text, longest first, with how they treat the
   * blanks around them. User-defined tokens are not among them: those are recognised always.
   */
  specialTokens(): SpecialToken[] {
    const found: SpecialToken[] = [];
    for (let token = 0; token < this.size; token++) {
      const attributes = this.#binding.tokenAttributes(this.#vocabulary, token);
      if ((attributes & (ATTRIBUTE.unknown | ATTRIBUTE.control)) === 0) continue;
      const text = this.text(token);
      const stripsLeft = (attributes & ATTRIBUTE.stripsLeft) !== 0;
      const stripsRight = (attributes & ATTRIBUTE.stripsRight) !== 0;
      if (text !== '') found.push({ text, stripsLeft, stripsRight });
    }
    return found.sort((a, b) => b.text.length - a.text.length);
  }

  /** The bytes of one token; a copy. */
  piece(token: number, special: boolean): Uint8Array {
    if (!this.present || token < 0 || token >= this.size) return new Uint8Array();
    const write = (): number =>
      this.#binding.tokenToPiece(
        this.#vocabulary,
        token,
        this.#room,
        this.#room.byteLength,
        0,
        special,
      );
    let bytes = write();
    if (bytes < 0) {
      this.#room = new Uint8Array(Math.min(-bytes, PIECE_BYTES_MAX));
      bytes = write();
    }
    return this.#room.slice(0, Math.max(0, bytes));
  }

  /** Tokens of a text. Throws `engine.tokenizer`. */
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Int32Array {
    const bytes = new TextEncoder().encode(text);
    let tokens = new Int32Array(bytes.byteLength + 16);
    const run = (): number =>
      this.#binding.tokenize(
        this.#vocabulary,
        bytes,
        bytes.byteLength,
        tokens,
        tokens.length,
        addSpecial,
        parseSpecial,
      );
    let count = run();
    if (count < 0) {
      tokens = new Int32Array(-count);
      count = run();
    }
    if (count < 0)
      throw new MinikeepError('engine.tokenizer', 'the text cannot be tokenized', {
        next: NEXT.checkTokenizer,
      });
    return tokens.slice(0, count);
  }

  /** Text of tokens; bytes that are no characters become U+FFFD. */
  detokenize(tokens: readonly number[], special: boolean): string {
    const ids = Int32Array.from(tokens.filter((t) => t >= 0 && t < this.size));
    let room = new Uint8Array(ids.length * 8 + 64);
    const run = (): number =>
      this.#binding.detokenize(
        this.#vocabulary,
        ids,
        ids.length,
        room,
        room.byteLength,
        false,
        special,
      );
    let bytes = run();
    if (bytes < 0) {
      room = new Uint8Array(-bytes);
      bytes = run();
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      room.subarray(0, Math.max(0, bytes)),
    );
  }
}
