/** The committed table: one row a model and layer count, one column a type. */
import { SUITE_WEIGHTS, type JobResult } from './jobs.ts';

export interface ReportHeader {
  /** llama.cpp's version as its library is called. */
  readonly llama: string;
  readonly platform: string;
}

/** Markdown, ending in a newline. */
export function report(results: readonly JobResult[], header: ReportHeader): string {
  const rows = new Map<string, { first: JobResult; cells: Map<string, string> }>();
  for (const result of results) {
    const key = `${result.name}/${result.layers}`;
    const row = rows.get(key) ?? { first: result, cells: new Map() };
    row.cells.set(result.weights, cell(result));
    rows.set(key, row);
  }
  const cuts = results.reduce((sum, r) => sum + r.cuts, 0);
  const compared = results.reduce((sum, r) => sum + r.rows_compared, 0);
  const wrong = results.filter((r) => !r.identical).length;
  return [
    '# Conformance: the split computes what the whole computes',
    '',
    'Written by `npm run conformance`; the numbers behind it are in `conformance.json`. Each cell says at how many',
    'cuts the logits of every row were compared bit by bit with those of the whole model, in real engines, and the',
    'largest difference. Random models of tiny dimensions at published layer counts: `packages/testkit/src/models`.',
    'What a run computes (prompts longer than a batch and than every window, several sequences in one step, a',
    'rewind): `packages/testkit/src/conformance/script.ts`. That a missed rule would show: `traps.test.ts`.',
    '',
    `llama.cpp ${header.llama}, ${header.platform}. ${cuts} cuts, ${compared} rows compared, ` +
      `${wrong === 0 ? 'every one identical' : `**${wrong} models with differences**`}.`,
    '',
    `| model | architecture | layers | ${SUITE_WEIGHTS.join(' | ')} |`,
    `| --- | --- | --- | ${SUITE_WEIGHTS.map(() => '---').join(' | ')} |`,
    ...[...rows.values()].map(
      ({ first, cells }) =>
        `| ${first.name} | ${first.architecture} | ${first.layers} | ` +
        `${SUITE_WEIGHTS.map((weights) => cells.get(weights) ?? '–').join(' | ')} |`,
    ),
    '',
  ].join('\n');
}

const cell = (result: JobResult): string =>
  result.identical
    ? `${result.cuts} cuts: 0`
    : `**${result.failed.length} of ${result.cuts} cuts differ: ${result.max_logit_difference}**`;
