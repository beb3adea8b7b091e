/** What the last stage keeps for each open sequence: how to choose the next token, and the answer's text so far. */
import {
  type SamplingParams,
  type SequenceOp,
  type Span,
  type StepOutput,
  MinikeepError,
} from '@minikeep/protocol';
import { parseSampling } from '../sampling-schema.ts';
import type { Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import type { Vocabulary } from '../text/vocabulary.ts';
import { Answer } from './answer.ts';
import { Sampler } from './sampling.ts';
import { NEXT } from '../next-steps.ts';

interface Open {
  readonly sampler: Sampler;
  readonly answer: Answer;
}

export class Generation {
  readonly #binding: Binding;
  readonly #vocabulary: Vocabulary;
  readonly #open = new Map<number, Open>();
  readonly #encoder = new TextEncoder();

  constructor(binding: Binding, vocabulary: Vocabulary) {
    this.#binding = binding;
    this.#vocabulary = vocabulary;
  }

  /** Throws `engine.sampling` for parameters that `apply` would not take. */
  check(ops: readonly SequenceOp[]): void {
    for (const op of ops) if (op.op === 'open') parseSampling(op.sampling);
  }

  /**
   * Follows an operation. Closing a sequence whose answer still holds text back (the answer was cut short) returns
   * that text as an output without a token.
   */
  apply(op: SequenceOp, position: number): StepOutput | undefined {
    switch (op.op) {
      case 'open':
        this.#set(op.seq, this.#fresh(parseSampling(op.sampling)));
        return undefined;
      case 'remove':
        this.#open
          .get(op.seq)
          ?.sampler.remove(op.p0, op.p1 === -1 ? Number.POSITIVE_INFINITY : op.p1);
        return undefined;
      case 'copy': {
        const source = this.#open.get(op.source);
        const until = op.p1 === -1 ? Number.POSITIVE_INFINITY : op.p1;
        const history = source?.sampler.history(op.p0, until) ?? [];
        this.#open.get(op.seq)?.sampler.restore(history.filter((h) => h.position < position));
        return undefined;
      }
      case 'close': {
        const text = this.#open.get(op.seq)?.answer.flush() ?? '';
        this.drop(op.seq);
        return text === '' ? undefined : this.#output(op.seq, -1, position, 'none', text);
      }
    }
  }

  /** The tokens of a span go into the history; replayed ones also move the answer's text on, unseen. */
  accept(span: Span, tokens: Int32Array): void {
    const open = this.#get(span.seq);
    open.sampler.accept(tokens, span.position);
    if (span.replay) for (const token of tokens) open.answer.push(token);
  }

  /** Samples after the span's last row, which is row `row` of the last decode. */
  sample(context: Address, span: Span, row: number): StepOutput {
    const open = this.#get(span.seq);
    const last = span.position + span.count - 1;
    const token = open.sampler.sample(context, row, last + 1);
    const { text, finish } = open.answer.push(token);
    return this.#output(span.seq, token, last, finish, text);
  }

  #output(
    seq: number,
    token: number,
    position: number,
    finish: StepOutput['finish'],
    text: string,
  ): StepOutput {
    const bytes = this.#encoder.encode(text);
    return { seq, token, position, finish, text: bytes, logits: new Float32Array() };
  }

  #fresh(params: SamplingParams): Open {
    return {
      sampler: new Sampler(this.#binding, params, this.#vocabulary.size),
      answer: new Answer(this.#vocabulary, params),
    };
  }

  #set(seq: number, open: Open): void {
    this.drop(seq);
    this.#open.set(seq, open);
  }

  /** Forgets a sequence. */
  drop(seq: number): void {
    this.#open.get(seq)?.sampler.free();
    this.#open.delete(seq);
  }

  #get(seq: number): Open {
    const open = this.#open.get(seq);
    if (open !== undefined) return open;
    throw new MinikeepError('engine.sequence', `sequence ${seq} is not open`, {
      next: NEXT.report,
    });
  }
}
