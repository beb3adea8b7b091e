/** `minikeep bundle`: packs everything that a machine without the internet needs, and prints the archive's digest. */
import { asPlatform, makeBundle, partialOf, thisPlatform, type MadeBundle } from '@minikeep/bundle';
import { findModelFile } from '@minikeep/models';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { rmSync } from 'node:fs';
import path from 'node:path';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { openHomeModels } from '../home-models.ts';
import { defaultCacheFolder } from '../local-cluster.ts';
import { knownModels, looksLikeModel } from '../models.ts';
import { Progress } from '../progress.ts';
import type { Terminal } from '../terminal.ts';

export interface BundleFlags extends CommonFlags {
  readonly platform?: string;
  readonly withModel?: string;
  readonly home?: string;
  readonly packages?: string;
  readonly advisories?: string;
}

export async function bundle(
  { terminal, interrupts, distFolder }: CommandContext,
  fileName: string,
  flags: BundleFlags,
): Promise<number> {
  const platform = asPlatform(flags.platform ?? thisPlatform() ?? '(this machine)');
  const file = path.resolve(fileName);
  const json = flags.json === true;
  const model = flags.withModel === undefined ? undefined : await modelNamed(flags, distFolder);
  const progress = new Progress(terminal, json);
  const forget = interrupts.atOnce(() => rmSync(partialOf(file), { force: true }));
  let made: MadeBundle;
  try {
    progress.show('collecting the files');
    made = await makeBundle({
      file,
      platform,
      model,
      distFolder,
      nodeFile: process.execPath,
      cacheFolder: path.join(defaultCacheFolder(), 'packages'),
      packagesFolder: flags.packages,
      advisoriesFile: flags.advisories,
      now: new Date(),
      signal: interrupts.signal,
      note: (text) => {
        if (!json) terminal.note(text);
      },
      onProgress: (done, total) => progress.show('packing', done / total),
    });
  } finally {
    progress.clear();
    forget();
  }
  if (json) await terminal.json(documentOf(made));
  else await say(terminal, made);
  return EXIT.ok;
}

/** A name in front of everything: the embedded model, a path, a model of the cluster in --home. */
async function modelNamed(flags: BundleFlags, distFolder: string): Promise<string> {
  const name = flags.withModel ?? '';
  const known = knownModels(distFolder);
  // It is in every bundle anyway.
  const embedded = known.get(name);
  if (embedded !== undefined)
    throw new MinikeepError('bundle.model_embedded', `${name} is in every bundle`, {
      next: 'Leave --with-model out, or name another model.',
      exitCode: EXIT.usage,
    });
  if (looksLikeModel(name, known)) return findModelFile(name);
  const models = openHomeModels(flags);
  try {
    const found = (await models.list()).find((one) => one.name === name);
    if (found !== undefined) return found.path;
  } finally {
    models.close();
  }
  throw new MinikeepError('model.unknown', `the cluster has no model called "${name}"`, {
    next: 'List them: minikeep model list; or give a GGUF file (a path has a slash in it or ends in .gguf).',
    exitCode: EXIT.usage,
  });
}

const documentOf = (made: MadeBundle): Record<string, unknown> => ({
  file: made.file,
  sha256: made.sha256,
  bytes: made.bytes,
  platform: made.platform,
  version: made.version,
  files: made.files,
  unpacked_bytes: made.unpackedBytes,
  advisories: {
    status: made.advisories.status,
    date: made.advisories.date,
    reason: made.advisories.reason,
    count: made.advisories.advisories.length,
  },
});

async function say(terminal: Terminal, made: MadeBundle): Promise<void> {
  const name = path.basename(made.file);
  await terminal.line(
    `${made.file}: minikeep ${made.version} for ${made.platform}, ${made.files} files, ${(made.bytes / 1e6).toFixed(1)} MB`,
  );
  await terminal.line(`SHA-256: ${made.sha256}`);
  const { status, date, reason, advisories } = made.advisories;
  if (status === 'not_asked')
    await terminal.line(`Advisories: NOT KNOWN on ${date}: ${reason}. The bundle says so.`);
  else if (advisories.length === 0)
    await terminal.line(`Advisories: none known for its npm packages on ${date}.`);
  else {
    await terminal.line(`Advisories known on ${date}: ${advisories.length}`);
    for (const one of advisories)
      await terminal.line(
        `  ${one.severity}: ${one.package} ${one.range}: ${one.title} (${one.url})`,
      );
  }
  await terminal.line(`
On the other machine (no Node, npm or network needed there):
  tar -xzOf ${name} minikeep/install.sh > install.sh
  sh install.sh ${name} --digest ${made.sha256}`);
}
