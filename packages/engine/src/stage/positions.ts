/**
 * Which sequences are open and how far each one is. Pure, so that a step is checked as a whole before llama.cpp is
 * asked for anything: a wrong position there ends in an assertion that kills the process.
 */
import { MinikeepError, type SequenceOp, type Span, type StepFrame } from '@minikeep/protocol';
import { NEXT } from '../next-steps.ts';

const CLOSED = -1;

export interface StepLimits {
  /** Positions of one sequence. */
  readonly n_ctx: number;
  /** Rows of one step. */
  readonly n_batch: number;
  /** Positions that a sliding window needs before the next row, or 0 when the whole past is kept. */
  readonly window: number;
}

export class Positions {
  readonly #ends: Int32Array;

  /** `count` closed sequences, or a copy. */
  constructor(from: number | Positions) {
    this.#ends = typeof from === 'number' ? new Int32Array(from).fill(CLOSED) : from.#ends.slice();
  }

  get count(): number {
    return this.#ends.length;
  }

  isOpen(seq: number): boolean {
    return (this.#ends[seq] ?? CLOSED) !== CLOSED;
  }

  /** The next position of an open sequence. */
  end(seq: number): number {
    return this.#ends[seq] ?? CLOSED;
  }

  set(seq: number, end: number): void {
    this.#ends[seq] = end;
  }

  close(seq: number): void {
    this.#ends[seq] = CLOSED;
  }
}

const refuse = (code: string, message: string): MinikeepError =>
  new MinikeepError(`engine.${code}`, message, {
    next: NEXT.closeSequence,
  });

/** The state after a whole step. Throws `engine.sequence`, `.position`, `.context_full`, `.batch_full`; changes nothing. */
export function afterStep(before: Positions, frame: StepFrame, limits: StepLimits): Positions {
  const after = new Positions(before);
  for (const op of frame.ops) applyOp(after, op);
  let rows = 0;
  const seen = new Set<number>();
  for (const span of frame.spans) {
    rows += span.count;
    if (seen.has(span.seq))
      throw refuse('sequence', `sequence ${span.seq} has two spans in a step`);
    seen.add(span.seq);
    applySpan(after, span, limits);
  }
  if (rows > limits.n_batch)
    throw refuse('batch_full', `a step of ${rows} rows; the deployment allows ${limits.n_batch}`);
  return after;
}

function applyOp(state: Positions, op: SequenceOp): void {
  if (op.seq >= state.count)
    throw refuse('sequence', `sequence ${op.seq}: the deployment has ${state.count}`);
  switch (op.op) {
    case 'open':
      if (state.isOpen(op.seq)) throw refuse('sequence', `sequence ${op.seq} is open already`);
      state.set(op.seq, 0);
      return;
    case 'close':
      // Closing twice is allowed: after a failed step not every stage has seen the same.
      state.close(op.seq);
      return;
    case 'remove':
      if (!state.isOpen(op.seq)) throw refuse('sequence', `sequence ${op.seq} is not open`);
      if (op.p1 === -1 || op.p1 >= state.end(op.seq))
        state.set(op.seq, Math.min(op.p0, state.end(op.seq)));
      return;
    case 'copy': {
      if (!state.isOpen(op.seq) || state.end(op.seq) !== 0)
        throw refuse(
          'sequence',
          `sequence ${op.seq} is not open and empty, so nothing is copied there`,
        );
      if (op.source >= state.count || !state.isOpen(op.source) || op.source === op.seq)
        throw refuse('sequence', `sequence ${op.source} cannot be copied from`);
      const end = state.end(op.source);
      const until = op.p1 === -1 ? end : Math.min(op.p1, end);
      state.set(op.seq, op.p0 < until ? until : 0);
    }
  }
}

function applySpan(state: Positions, span: Span, limits: StepLimits): void {
  if (!state.isOpen(span.seq)) throw refuse('sequence', `sequence ${span.seq} is not open`);
  if (span.position !== state.end(span.seq))
    throw refuse(
      'position',
      `sequence ${span.seq} continues at ${state.end(span.seq)}, the step says ${span.position}`,
    );
  const end = span.position + span.count;
  if (end > limits.n_ctx)
    throw new MinikeepError(
      'engine.context_full',
      `sequence ${span.seq} would hold ${end} tokens; the context has room for ${limits.n_ctx}`,
      { next: NEXT.largerContext },
    );
  state.set(span.seq, end);
}
