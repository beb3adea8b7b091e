/** `minikeep model list` and `model rm`: which models a cluster knows. */
import { formatBytes } from '@minikeep/planner';
import { EXIT } from '@minikeep/protocol';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { openHomeModels } from '../home-models.ts';
import { safeLine } from '../safe-text.ts';
import { modelDocument } from './model-import.ts';

export async function modelList({ terminal }: CommandContext, flags: HomeFlags): Promise<number> {
  const models = openHomeModels(flags);
  try {
    const known = await models.list();
    if (flags.json === true) await terminal.json({ models: known.map(modelDocument) });
    else if (known.length === 0)
      await terminal.line('No models yet. Import one: minikeep model import FILE');
    else {
      const width = Math.max(4, ...known.map((model) => model.name.length)) + 2;
      await terminal.line(
        `${'NAME'.padEnd(width)}${'SIZE'.padEnd(11)}${'TYPE'.padEnd(20)}${'LICENCE'.padEnd(16)}FILE`,
      );
      for (const { name, sizeBytes, architecture, report, path, present } of known) {
        const type = `${architecture} ${report?.quantisation ?? ''}`.trim();
        const licence = (report?.licence ?? '') || '–';
        const line = `${name.padEnd(width)}${formatBytes(sizeBytes).padEnd(11)}${type.padEnd(20)}${licence.slice(0, 14).padEnd(16)}${path}`;
        await terminal.line(safeLine(present ? line : `${line} (not there now)`, 1_000));
      }
    }
    return EXIT.ok;
  } finally {
    models.close();
  }
}

export async function modelRemove(
  { terminal }: CommandContext,
  name: string,
  flags: HomeFlags,
): Promise<number> {
  const models = openHomeModels(flags);
  try {
    const { sha256, path } = await models.remove(name);
    if (flags.json === true) await terminal.json({ name, sha256, path });
    else
      await terminal.line(
        path === ''
          ? `Removed ${name} and the copy of its files.`
          : safeLine(`Removed ${name}. Its file stays: ${path}`, 1_000),
      );
    return EXIT.ok;
  } finally {
    models.close();
  }
}
