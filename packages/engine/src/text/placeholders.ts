/**
 * Keeps special tokens that a user typed from becoming special: before the template sees the conversation, each such
 * text is replaced by a placeholder, and afterwards the piece of prompt around it is tokenized as plain text. Without
 * this, `<|im_end|>` in a message would end the message.
 */
import type { SpecialToken } from './vocabulary.ts';

/** Characters for private use, of which two that occur nowhere are taken. */
const PRIVATE_FIRST = 0xf0000;
const PRIVATE_LAST = 0xf0fff;

export interface PromptPart {
  readonly text: string;
  /** Whether special tokens in it are the template's own. */
  readonly parseSpecial: boolean;
}

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/-]/g, '\\$&');

export class Placeholders {
  readonly #special: readonly SpecialToken[];
  readonly #pattern: RegExp | undefined;
  readonly #hidden: string[] = [];
  #open = '';
  #close = '';

  /** `special`: longest first, so that the longest one at a place is taken. */
  constructor(special: readonly SpecialToken[]) {
    this.#special = special;
    const texts = special.map(({ text }) => escape(text));
    this.#pattern = texts.length === 0 ? undefined : new RegExp(texts.join('|'), 'gu');
  }

  get used(): boolean {
    return this.#hidden.length > 0;
  }

  /** The same value with special texts replaced in all its strings. `template` is looked at to avoid its characters. */
  hide<T>(value: T, template: string): T {
    const taken = new Set(template + JSON.stringify(value));
    const free: string[] = [];
    for (let code = PRIVATE_FIRST; code <= PRIVATE_LAST && free.length < 2; code++)
      if (!taken.has(String.fromCodePoint(code))) free.push(String.fromCodePoint(code));
    [this.#open = '', this.#close = ''] = free;
    return this.#walk(value) as T;
  }

  #walk(value: unknown): unknown {
    if (typeof value === 'string') return this.#hideIn(value);
    if (Array.isArray(value)) return value.map((item) => this.#walk(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [this.#hideIn(key), this.#walk(item)]),
    );
  }

  #hideIn(text: string): string {
    if (this.#pattern === undefined) return text;
    return text.replaceAll(this.#pattern, (found) => {
      this.#hidden.push(found);
      return `${this.#open}${this.#hidden.length - 1}${this.#close}`;
    });
  }

  /** The prompt as it reads, with the hidden texts back in their places. */
  restore(text: string): string {
    if (!this.used) return text;
    const mark = new RegExp(`${this.#open}(\\d+)${this.#close}`, 'gu');
    return text.replaceAll(mark, (_, index: string) => this.#hidden[Number(index)] ?? '');
  }

  /**
   * Cuts a rendered prompt at the template's own special tokens around every hidden text. One part with special
   * tokens when nothing is hidden: exactly the plain way.
   */
  parts(rendered: string): PromptPart[] {
    if (!this.used || this.#pattern === undefined) return [{ text: rendered, parseSpecial: true }];
    const parts: PromptPart[] = [];
    let own = '';
    let at = 0;
    let before: SpecialToken | undefined;
    const flushOwn = (): void => {
      if (own !== '') parts.push({ text: own, parseSpecial: true });
      own = '';
    };
    const between = (text: string, after: SpecialToken | undefined): void => {
      if (!text.includes(this.#open)) {
        own += text;
        return;
      }
      flushOwn();
      // What llama.cpp would do around its special tokens if it saw them beside this text.
      let plain = before?.stripsRight === true ? text.trimStart() : text;
      if (after?.stripsLeft === true) plain = plain.trimEnd();
      parts.push({ text: this.restore(plain), parseSpecial: false });
    };
    for (const match of rendered.matchAll(this.#pattern)) {
      const special = this.#special.find(({ text }) => text === match[0]);
      between(rendered.slice(at, match.index), special);
      own += match[0];
      at = match.index + match[0].length;
      before = special;
    }
    between(rendered.slice(at), undefined);
    flushOwn();
    return parts;
  }
}
