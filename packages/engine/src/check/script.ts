/**
 * The steps that both sides of a comparison compute. Token ids of our own choice, so that no vocabulary is needed and
 * the choice of a token never hides a difference; every row's logits are asked for.
 */
import { DEFAULT_SAMPLING, type SequenceOp, type Span } from '@minikeep/protocol';
import type { StepInput } from './pipeline.ts';

/** Nothing is sampled; a sequence can't be opened without saying how. */
const SAMPLING = new TextEncoder().encode(JSON.stringify(DEFAULT_SAMPLING));

/** Some ids are special to a tokenizer; to the weights all are alike. */
export function tokenAt(seq: number, position: number, vocabSize: number): number {
  let x = (seq + 1) * 0x9e3779b1 + (position + 1) * 0x85ebca6b;
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  x = Math.imul(x ^ (x >>> 12), 0x297a2d39);
  return ((x ^ (x >>> 15)) >>> 0) % vocabSize;
}

/** Builds steps and keeps each sequence's position. */
export class Script {
  readonly steps: StepInput[] = [];
  readonly #vocabSize: number;
  readonly #positions = new Map<number, number>();
  #ops: SequenceOp[] = [];

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  open(seq: number): this {
    this.#ops.push({ op: 'open', seq, sampling: SAMPLING });
    this.#positions.set(seq, 0);
    return this;
  }

  close(seq: number): this {
    this.#ops.push({ op: 'close', seq });
    this.#positions.delete(seq);
    return this;
  }

  /** Forgets everything from `position` on. */
  rewind(seq: number, position: number): this {
    this.#ops.push({ op: 'remove', seq, p0: position, p1: -1 });
    this.#positions.set(seq, position);
    return this;
  }

  /** One step: [sequence, rows] each. */
  step(...parts: readonly (readonly [number, number])[]): this {
    const spans: Span[] = [];
    const tokens: number[] = [];
    for (const [seq, count] of parts) {
      const position = this.#positions.get(seq);
      if (position === undefined) throw new Error(`sequence ${seq} is not open`);
      spans.push({ seq, position, count, sample: false, logits: true, replay: false });
      for (let i = 0; i < count; i++) tokens.push(tokenAt(seq, position + i, this.#vocabSize));
      this.#positions.set(seq, position + count);
    }
    this.steps.push({ ops: this.#ops, spans, tokens: Int32Array.from(tokens) });
    this.#ops = [];
    return this;
  }
}

/** One sequence: a prompt in equal chunks (none of a single row), then single tokens. */
export function singleSequence(
  vocabSize: number,
  options: { readonly promptTokens: number; readonly tokens: number; readonly chunk: number },
): readonly StepInput[] {
  const script = new Script(vocabSize).open(0);
  for (let left = options.promptTokens; left > 0;) {
    // A last chunk of one row would be computed as a decode step is: it joins the one before.
    const rows = left === options.chunk + 1 ? options.chunk - 1 : Math.min(left, options.chunk);
    script.step([0, rows]);
    left -= rows;
  }
  for (let i = 0; i < options.tokens; i++) script.step([0, 1]);
  return script.steps;
}
