/**
 * The text of one sequence's answer, token by token: whole characters only, no stop string and no part of one.
 */
import {
  FRAME_TEXT_BYTES_MAX,
  MinikeepError,
  type FinishReason,
  type SamplingParams,
} from '@minikeep/protocol';
import { NEXT } from '../next-steps.ts';
import { StopStrings } from './stop-strings.ts';

/** What an answer needs of a vocabulary. */
export interface Pieces {
  isEog(token: number): boolean;
  /** The bytes of one token. */
  piece(token: number, special: boolean): Uint8Array;
}

export interface AnswerPiece {
  readonly text: string;
  readonly finish: FinishReason;
}

export class Answer {
  readonly #vocabulary: Pieces;
  readonly #params: SamplingParams;
  readonly #stops: StopStrings;
  /** Holds back the bytes of an unfinished character; bytes that can't become one turn into U+FFFD. */
  #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #finished = false;

  constructor(vocabulary: Pieces, params: SamplingParams) {
    this.#vocabulary = vocabulary;
    this.#params = params;
    this.#stops = new StopStrings(params.stop);
  }

  /** The next token of the answer, and the text that it lets out. Throws `engine.text_too_long`. */
  push(token: number): AnswerPiece {
    if (this.#finished) return { text: '', finish: 'stop' };
    if (!this.#params.ignore_eog && this.#vocabulary.isEog(token))
      return { text: this.flush(), finish: 'eog' };
    const bytes = this.#vocabulary.piece(token, this.#params.special);
    const { text, stopped } = this.#stops.push(this.#decoder.decode(bytes, { stream: true }));
    this.#finished = stopped;
    return { text: sendable(text), finish: stopped ? 'stop' : 'none' };
  }

  /** The end: what was held back, an unfinished character as U+FFFD. Empty when called again. */
  flush(): string {
    if (this.#finished) return '';
    this.#finished = true;
    const rest = this.#stops.push(this.#decoder.decode());
    return sendable(rest.stopped ? rest.text : rest.text + this.#stops.flush());
  }
}

/** No real token has so long a text; a model file can give it one, and no frame would take it. */
function sendable(text: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes <= FRAME_TEXT_BYTES_MAX) return text;
  throw new MinikeepError(
    'engine.text_too_long',
    `one token of the model's vocabulary lets out ${bytes} bytes of text; the limit is ${FRAME_TEXT_BYTES_MAX}`,
    { next: NEXT.otherFile },
  );
}
