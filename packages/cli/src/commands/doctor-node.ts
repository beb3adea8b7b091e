/** `minikeep doctor --node N`: the doctor on a node of the running cluster, by the process that starts its engines. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import type { CommandContext } from '../command-context.ts';
import { withOperator } from '../operator-connection.ts';
import { Progress } from '../progress.ts';
import { safeLine } from '../safe-text.ts';
import { say, type DoctorFlags } from './doctor.ts';

const LINE_MAX = 1_000;
const TEXT = z.string().transform((text) => safeLine(text, LINE_MAX));
const DOCUMENT = z.object({
  blocks: z.boolean(),
  findings: z
    .array(
      z.object({
        id: TEXT,
        level: z.enum(['ok', 'note', 'warning', 'blocks']),
        what: TEXT,
        next: TEXT,
      }),
    )
    .max(1_000),
  facts: z.unknown(),
});

export async function doctorNode(
  { terminal, interrupts }: CommandContext,
  node: string,
  flags: DoctorFlags,
): Promise<number> {
  const progress = new Progress(terminal, flags.json === true);
  return withOperator(flags, async ({ operator }) => {
    let text: string | undefined;
    try {
      const request = { node, modelCheck: flags.modelCheck };
      for await (const { event } of operator.doctorNode(request, { signal: interrupts.signal })) {
        if (event?.$case === 'progress')
          progress.show(`${node}: ${safeLine(event.value, LINE_MAX)}`);
        if (event?.$case === 'report') text = event.value.documentJson;
      }
    } finally {
      progress.clear();
    }
    const document = parsed(text);
    if (document === undefined) throw noReport(node);
    if (flags.json === true) await terminal.json({ node, ...document });
    else {
      await terminal.line(`${node}:`);
      await say(terminal, document.findings, flags.verbose === true);
    }
    return document.blocks ? EXIT.checkFailed : EXIT.ok;
  });
}

function parsed(text: string | undefined): z.infer<typeof DOCUMENT> | undefined {
  try {
    return text === undefined ? undefined : DOCUMENT.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

const noReport = (node: string): MinikeepError =>
  new MinikeepError('doctor.no_report', `node ${node} gave no report`, {
    next: 'Run `minikeep doctor` on that machine.',
  });
