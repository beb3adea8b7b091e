/** `minikeep model import`: shows what would run, and takes it in when that was accepted. */
import { createInterface } from 'node:readline/promises';
import { checkAccepted } from '@minikeep/models';
import { formatBytes } from '@minikeep/planner';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { ImportedModel, ModelOffer, ModelReport } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { openHomeModels, type HomeModels } from '../home-models.ts';
import { Progress } from '../progress.ts';
import { safeLine } from '../safe-text.ts';

export interface ModelImportFlags extends HomeFlags {
  readonly name?: string;
  readonly copy?: boolean;
  readonly yes?: boolean;
  readonly sha256?: string;
}

export async function modelImport(
  context: CommandContext,
  file: string,
  flags: ModelImportFlags,
): Promise<number> {
  const { terminal, interrupts } = context;
  const json = flags.json === true;
  const models = openHomeModels(flags);
  const progress = new Progress(terminal, json);
  try {
    const ask = (acceptSha256: string) =>
      follow(
        models,
        { path: file, name: flags.name ?? '', copy: flags.copy === true, acceptSha256 },
        progress,
        interrupts.signal,
      );
    const { offer } = await ask('');
    if (offer === undefined) throw new Error('an import without an offer');
    if (!json)
      for (const [name, value] of reportRows(offer))
        await terminal.line(`${name.padEnd(14)}${safeLine(value, 2_000)}`);
    await accept(context, offer, flags);
    const { imported } = await ask(offer.sha256);
    if (imported === undefined) throw new Error('an accepted import without a result');
    if (json) await terminal.json(modelDocument(imported));
    else
      await terminal.line(
        `\nImported as ${imported.name}${imported.copied ? ', with a copy of its files' : '; its files stay where they are'}.`,
      );
    return EXIT.ok;
  } finally {
    progress.clear();
    models.close();
  }
}

async function follow(
  models: HomeModels,
  request: Parameters<HomeModels['import']>[0],
  progress: Progress,
  signal: AbortSignal,
): Promise<{ offer: ModelOffer | undefined; imported: ImportedModel | undefined }> {
  let offer: ModelOffer | undefined;
  let imported: ImportedModel | undefined;
  for await (const { event } of models.import(request, signal)) {
    if (event?.$case === 'progress') {
      const { copying, doneBytes, totalBytes } = event.value;
      progress.show(copying ? 'copying' : 'hashing', doneBytes / Math.max(1, totalBytes));
    } else if (event?.$case === 'offer') offer = event.value;
    else if (event?.$case === 'imported') imported = event.value;
  }
  progress.clear();
  return { offer, imported };
}

/** Throws unless the offer is accepted: by its digest, by --yes, or by somebody at the terminal. */
async function accept(
  { terminal, interrupts }: CommandContext,
  offer: ModelOffer,
  flags: ModelImportFlags,
): Promise<void> {
  if (flags.sha256 !== undefined) {
    checkAccepted(offer, flags.sha256);
    return;
  }
  if (flags.yes === true) return;
  const digest = `Compare the SHA-256 with the publisher’s, then: --sha256 ${offer.sha256}`;
  if (!terminal.interactive || flags.json === true)
    throw new MinikeepError('model.not_accepted', 'nobody accepted this model', {
      next: digest,
      exitCode: EXIT.usage,
    });
  const lines = createInterface({ input: terminal.stdin, output: terminal.stderr });
  try {
    const answer = await lines.question('\nTake this model in? [y/N] ', {
      signal: interrupts.signal,
    });
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    lines.close();
  }
  throw new MinikeepError('model.not_accepted', 'the model was not accepted, nothing changed', {
    next: digest,
    exitCode: EXIT.denied,
  });
}

const number = (n: number): string => n.toLocaleString('en-US');
const or = (text: string, otherwise: string): string => (text === '' ? otherwise : text);

function reportRows({ name, sha256, report }: ModelOffer): [string, string][] {
  if (report === undefined) return [];
  const r = report;
  return [
    ['file', r.path + (r.files > 1 ? ` and ${r.files - 1} more parts` : '')],
    ['as', name],
    ['licence', or(r.licence, 'not stated')],
    ['architecture', `${r.architecture}, ${r.layers} layers, ${number(r.parameters)} parameters`],
    ...(r.experts === 0
      ? []
      : [['experts', `${number(r.experts)}, ${number(r.expertsUsed)} used`] as [string, string]]),
    ['quantisation', `${r.quantisation}, ${r.bitsPerWeight.toFixed(2)} bits a weight`],
    ['context', `${number(r.contextLength)} tokens`],
    ['tokenizer', `${or(r.tokenizer, 'none')}, ${number(r.vocabulary)} tokens`],
    [
      'template',
      r.templateCharacters === 0
        ? 'none'
        : `a program of ${number(r.templateCharacters)} characters (model show --template), SHA-256 ${r.templateSha256.slice(0, 16)}…`,
    ],
    ['size', `${formatBytes(r.sizeBytes)} (${number(r.sizeBytes)} bytes)`],
    ['SHA-256', sha256],
    ...r.warnings.map((warning): [string, string] => ['note', warning]),
  ];
}

/** As `--json` prints it. */
export const modelDocument = (model: ImportedModel): Record<string, unknown> => ({
  name: model.name,
  sha256: model.sha256,
  path: model.path,
  size_bytes: model.sizeBytes,
  architecture: model.architecture,
  imported_at_seconds: model.importedAtSeconds,
  present: model.present,
  copied: model.copied,
  ...(model.report === undefined ? {} : reportDocument(model.report)),
});

const reportDocument = (r: ModelReport): Record<string, unknown> => ({
  files: r.files,
  layers: r.layers,
  parameters: r.parameters,
  quantisation: r.quantisation,
  bits_per_weight: r.bitsPerWeight,
  context_length: r.contextLength,
  licence: r.licence,
  tokenizer: r.tokenizer,
  vocabulary: r.vocabulary,
  template_characters: r.templateCharacters,
  template_sha256: r.templateSha256,
  warnings: r.warnings,
});
