/**
 * Which spans of a step go into one `llama_decode`. Pure.
 *
 * Every call has to be a single micro-batch with a known order of rows, or the callback sees the rows in another
 * order than the frame has them. With a cache per sequence llama.cpp deals out equal numbers of rows to sequences with
 * consecutive ids; so single rows of consecutive sequences can go together, and a longer span goes alone, which also
 * keeps the kernels of the attention the same for a sequence in any crowd.
 */
import type { Span } from '@minikeep/protocol';

export interface Group {
  /** Indices into the step's spans, in the order of their rows in the batch. */
  readonly spans: readonly number[];
  readonly rows: number;
}

/**
 * 'whole_step': as it is (one cache for all sequences).
 * 'single_rows': single rows together, longer spans alone (a cache per sequence).
 * 'each_span': nothing together: recurrent layers, and matrices whose product depends on the number of rows.
 */
export type Grouping = 'whole_step' | 'single_rows' | 'each_span';

export function groupSpans(spans: readonly Span[], grouping: Grouping): Group[] {
  if (spans.length === 0) return [];
  if (grouping === 'each_span') return spans.map((span, i) => ({ spans: [i], rows: span.count }));
  if (grouping === 'whole_step')
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
