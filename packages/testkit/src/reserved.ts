/** How much memory engines take: really, stage by stage, or as llama.cpp would without allocating it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { engineLibraries, stageFiles, wholeFile, type ContextSettings } from '@minikeep/engine';
import { reservedInProcess, StagesInProcess } from '@minikeep/engine/in-process';
import type { Model } from '@minikeep/gguf';
import { REPOSITORY } from './needs.ts';

const libraries = (): string[] => engineLibraries(path.join(REPOSITORY, 'dist'));

/** What the stages of a model cut at `cuts` allocate, in their order; they are loaded for it and freed. */
export async function stagesMemory(
  model: Model,
  cuts: readonly number[],
  context: ContextSettings,
): Promise<StagesInProcess['memory']> {
  const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-memory-'));
  try {
    const files =
      cuts.length === 0
        ? [await wholeFile({ model }, folder)]
        : await stageFiles({ model }, cuts, folder);
    const stages = await StagesInProcess.start(files, context, libraries(), {
      logits: false,
    });
    try {
      return stages.memory;
    } finally {
      stages.stop();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Of a whole file without its weights (writeHeaderOnly). */
export const reservedMemory = (
  file: string,
  context: ContextSettings,
): ReturnType<typeof reservedInProcess> =>
  reservedInProcess(file, context, context.n_seq_max, libraries());
