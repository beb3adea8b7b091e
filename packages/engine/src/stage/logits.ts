/** Logits as part of a result: only checks ask for them, because one row has as many values as the vocabulary. */
import koffi from 'koffi';
import { FRAME_BYTES_MAX, MinikeepError, type Span, type StepOutput } from '@minikeep/protocol';
import type { Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import { NEXT } from '../next-steps.ts';

/** Room for everything in a result besides the logits. */
const REST_BYTES = 1024 * 1024;

/** Throws `engine.logits` before anything is computed, if the answer could not be sent. */
export function checkLogitsFit(spans: readonly Span[], vocabulary: number, enabled: boolean): void {
  const rows = spans.reduce((sum, span) => sum + (span.logits ? span.count : 0), 0);
  if (rows === 0) return;
  const bytes = rows * vocabulary * 4;
  if (enabled && bytes <= FRAME_BYTES_MAX - REST_BYTES) return;
  throw new MinikeepError(
    'engine.logits',
    enabled
      ? `the logits of ${rows} rows are ${bytes} bytes`
      : 'this stage was loaded without logits',
    { next: enabled ? NEXT.fewerRows : NEXT.withLogits },
  );
}

/** One output a row of the span, whose first is row `row` of the last decode; the sampled token joins the last. */
export function logitsOf(
  binding: Binding,
  context: Address,
  span: Span,
  row: number,
  vocabulary: number,
  sampled: StepOutput | undefined,
): StepOutput[] {
  const outputs: StepOutput[] = [];
  for (let i = 0; i < span.count; i++) {
    const at = binding.logitsAt(context, row + i);
    if (!at)
      throw new MinikeepError('engine.logits', `row ${row + i} has no logits`, {
        next: NEXT.report,
      });
    const logits = new Float32Array(koffi.view(at, vocabulary * 4).slice(0));
    const last = i === span.count - 1 ? sampled : undefined;
    outputs.push(
      last === undefined
        ? {
            seq: span.seq,
            token: -1,
            position: span.position + i,
            finish: 'none',
            text: new Uint8Array(),
            logits,
          }
        : { ...last, logits },
    );
  }
  return outputs;
}
