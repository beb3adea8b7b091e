/**
 * R1 and its kind think first, between `<think>` and `</think>`: programs want that apart from the answer. The tags may
 * be cut anywhere over tokens, so what may still become one is held back. Pure.
 */
export interface Piece {
  readonly kind: 'reasoning' | 'content';
  readonly text: string;
}

const OPEN = '<think>';
const CLOSE = '</think>';

/** Blanks that a template may put behind the tag. */
const BLANKS_MAX = 64;

/** Whether a rendered prompt ends with the tag: R1's template writes it, so the answer has only the closing one. */
export const opensThinking = (prompt: string): boolean =>
  prompt
    .slice(-(OPEN.length + BLANKS_MAX))
    .trimEnd()
    .endsWith(OPEN);

export class ReasoningSplitter {
  #state: 'start' | 'thinking' | 'after' | 'answer';
  #held = '';

  /** `opened`: the chat template itself began the thinking. */
  constructor(opened: boolean) {
    this.#state = opened ? 'thinking' : 'start';
  }

  push(text: string): Piece[] {
    this.#held += text;
    const pieces: Piece[] = [];
    for (;;) {
      const before = this.#held.length;
      const state = this.#state;
      this.#step(pieces);
      if (this.#state === state && this.#held.length === before) return pieces;
    }
  }

  /** What was held back, when the answer is over. */
  end(): Piece[] {
    const text = this.#held;
    this.#held = '';
    if (text === '') return [];
    return [{ kind: this.#state === 'thinking' ? 'reasoning' : 'content', text }];
  }

  #step(pieces: Piece[]): void {
    if (this.#state === 'start') {
      // Only what stands first is a beginning of thinking; blanks before it say nothing.
      const trimmed = this.#held.trimStart();
      if (trimmed.startsWith(OPEN)) {
        this.#held = trimmed.slice(OPEN.length);
        this.#state = 'thinking';
      } else if (!OPEN.startsWith(trimmed)) this.#state = 'answer';
    } else if (this.#state === 'thinking') {
      const at = this.#held.indexOf(CLOSE);
      if (at >= 0) {
        emit(pieces, 'reasoning', this.#held.slice(0, at));
        this.#held = this.#held.slice(at + CLOSE.length);
        this.#state = 'after';
        return;
      }
      const safe = this.#held.length - partialEnd(this.#held, CLOSE);
      emit(pieces, 'reasoning', this.#held.slice(0, safe));
      this.#held = this.#held.slice(safe);
    } else if (this.#state === 'after') {
      // The blank lines between thinking and answer belong to neither.
      this.#held = this.#held.trimStart();
      if (this.#held !== '') this.#state = 'answer';
    } else {
      emit(pieces, 'content', this.#held);
      this.#held = '';
    }
  }
}

function emit(pieces: Piece[], kind: Piece['kind'], text: string): void {
  if (text !== '') pieces.push({ kind, text });
}

/** How many characters at the end of `text` are a beginning of `tag`. */
function partialEnd(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length--)
    if (text.endsWith(tag.slice(0, length))) return length;
  return 0;
}
