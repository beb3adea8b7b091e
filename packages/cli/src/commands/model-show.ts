/** `minikeep model show`: what is in a model file. Reads the header, and every byte once for the digest. */
import {
  allowedCuts,
  describeModel,
  layersToCut,
  modelDigest,
  openModel,
  summarise,
  type Model,
  type ModelSummary,
} from '@minikeep/gguf';
import { formatBytes } from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { knownModels } from '../models.ts';
import { Progress } from '../progress.ts';
import { safeLine } from '../safe-text.ts';

export interface ModelShowFlags extends CommonFlags {
  /** Print the chat template, nothing else. */
  readonly template?: boolean;
}

/** Whether and where the model can be split. */
type Split =
  | { readonly supported: true; readonly layers: number; readonly allowed_cuts: readonly number[] }
  | { readonly supported: false; readonly why: string };

export async function modelShow(
  { terminal, interrupts, distFolder }: CommandContext,
  name: string,
  flags: ModelShowFlags,
): Promise<number> {
  const model = await openModel(knownModels(distFolder).get(name) ?? name);
  const summary = describeModel(model);
  if (flags.template === true) {
    if (summary.template === undefined)
      throw new MinikeepError('model.no_template', 'this model has no chat template', {
        next: 'Use run --raw with it: the prompt is then fed as it is.',
      });
    await terminal.line(summary.template);
    return EXIT.ok;
  }
  const progress = new Progress(terminal, flags.json === true);
  const onProgress = (done: number, total: number): void =>
    progress.show('hashing', done / Math.max(1, total));
  const sha256 = await modelDigest(model, onProgress, interrupts.signal).finally(() =>
    progress.clear(),
  );
  const split = splitOf(model);
  if (flags.json === true) await terminal.json({ ...summary, sha256, split });
  else
    for (const [name, value] of rows(model, summary, sha256, split))
      await terminal.line(`${name.padEnd(14)}${safeLine(value, 2_000)}`);
  return EXIT.ok;
}

function splitOf(model: Model): Split {
  try {
    return { supported: true, layers: layersToCut(model), allowed_cuts: allowedCuts(model) };
  } catch (error) {
    if (error instanceof MinikeepError) return { supported: false, why: error.message };
    throw error;
  }
}

const UNKNOWN = '–';
const number = (n: number | undefined): string =>
  n === undefined ? UNKNOWN : n.toLocaleString('en-US');

function rows(model: Model, s: ModelSummary, sha256: string, split: Split): [string, string][] {
  const types = s.tensor_types
    .map((t) => `${t.type} ${formatBytes(t.bytes)} in ${t.tensors}`)
    .join(', ');
  const template =
    s.template === undefined
      ? 'none'
      : `${number(s.template.length)} characters (a program; --template shows it)`;
  return [
    ['file', model.path + (s.files > 1 ? ` and ${s.files - 1} more parts` : '')],
    ['name', s.name ?? UNKNOWN],
    ['licence', s.licence ?? 'not stated'],
    ['architecture', s.architecture],
    ['layers', `${number(s.layers)}${s.mtp_layers > 0 ? `, ${s.mtp_layers} of them MTP` : ''}`],
    ['parameters', number(s.parameters)],
    ...(s.experts === undefined
      ? []
      : [['experts', `${number(s.experts)}, ${number(s.experts_used)} used`] as [string, string]]),
    ['quantisation', `${s.quantisation}, ${s.bits_per_weight.toFixed(2)} bits a weight`],
    ['tensors', `${number(s.tensors)}: ${types}`],
    ['context', `${number(s.context_length)} tokens`],
    ['tokenizer', `${s.tokenizer ?? 'none'}, ${number(s.vocabulary)} tokens`],
    ['template', template],
    ['size', `${formatBytes(s.size_bytes)} (${number(s.size_bytes)} bytes)`],
    ['SHA-256', sha256],
    [
      'split',
      split.supported
        ? `can be cut before layer ${summarise(split.allowed_cuts) || UNKNOWN}`
        : split.why,
    ],
  ];
}
