/**
 * Which spans of a step go into one `llama_decode`. Pure.
 *
 * Every call has to be a single micro-batch with a known order of rows, or the callback sees the rows in another
 * order than the frame has them. With one cache for all (`fast`) llama.cpp takes a batch as it is. With a cache per
 * sequence (`exact`) it deals out equal numbers of rows to sequences with consecutive ids; so single rows of
 * consecutive sequences go together, and a longer span goes alone. That also keeps the kernels the same for a
 * sequence, alone and in any crowd. Recurrent layers always split by sequence.
 */
import type { Span } from '@minikeep/protocol';

export interface Group {
  /** Indices into the step's spans, in the order of their rows in the batch. */
  readonly spans: readonly number[];
  readonly rows: number;
}

export function groupSpans(
  spans: readonly Span[],
  mode: 'exact' | 'fast',
  recurrent: boolean,
): Group[] {
  if (spans.length === 0) return [];
  if (recurrent) return spans.map((span, i) => ({ spans: [i], rows: span.count }));
  if (mode === 'fast')
    return [{ spans: spans.map((_, i) => i), rows: spans.reduce((sum, s) => sum + s.count, 0) }];
  const groups: Group[] = [];
  const singles = spans
    .map((span, i) => ({ seq: span.seq, count: span.count, i }))
    .filter(({ count }) => count === 1)
    .sort((a, b) => a.seq - b.seq);
  let run: number[] = [];
  let next = -1;
  const flush = (): void => {
    if (run.length > 0) groups.push({ spans: run, rows: run.length });
    run = [];
  };
  for (const { seq, i } of singles) {
    if (seq !== next) flush();
    run.push(i);
    next = seq + 1;
  }
  flush();
  for (const [i, span] of spans.entries())
    if (span.count > 1) groups.push({ spans: [i], rows: span.count });
  return groups;
}
