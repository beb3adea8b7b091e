/** The files that stages load, written into a folder of the caller's: for `model check` and for the bench. */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { planSlices, sliceStream, WindowWriter, type Model, type SlicePlan } from '@minikeep/gguf';
import { MinikeepError } from '@minikeep/protocol';
import type { StageFile } from './pipeline.ts';

export interface StageFilesOptions {
  readonly model: Model;
  readonly signal?: AbortSignal;
  /** Called for each slice when it is written and not yet loaded (tests damage it here). */
  readonly onSlice?: (plan: SlicePlan, file: string) => Promise<void>;
}

/** The whole model as one stage. A single file is used where it lies; the parts of a split model are joined first. */
export async function wholeFile(options: StageFilesOptions, folder: string): Promise<StageFile> {
  const { model } = options;
  const [plan] = planSlices(model, []);
  if (plan === undefined) throw new Error('no plan for the whole model');
  const single = model.files.length === 1 ? model.files[0]?.path : undefined;
  const slice = single ?? path.join(folder, 'whole.gguf');
  if (single === undefined) await writeSlice(options, plan, slice);
  return { slice, layers: plan.layers, first: true, last: true };
}

/**
 * Slices of the model cut at `cuts`, in the order of their stages; `folder` holds none of the same model yet. Throws
 * `slice.*`, `gguf.*`, `check.disk_full`, and the signal's reason.
 */
export async function stageFiles(
  options: StageFilesOptions,
  cuts: readonly number[],
  folder: string,
): Promise<StageFile[]> {
  const plans = planSlices(options.model, cuts);
  const written = new Map<SlicePlan, string>();
  for (const plan of plans) {
    if (plan.kind === 'text') continue;
    const file = path.join(folder, `${plan.key}.gguf`);
    await writeSlice(options, plan, file);
    await options.onSlice?.(plan, file);
    written.set(plan, file);
  }
  const embedding = plans.find((plan) => plan.kind === 'embedding');
  return plans
    .filter((plan) => plan.kind === 'stage')
    .map((plan): StageFile => {
      const lookup = plan.first && embedding !== undefined ? written.get(embedding) : undefined;
      return {
        slice: written.get(plan) ?? '',
        ...(lookup === undefined ? {} : { embedding: lookup }),
        layers: plan.layers,
        first: plan.first,
        last: plan.last,
      };
    });
}

async function writeSlice(
  { model, signal }: StageFilesOptions,
  plan: SlicePlan,
  file: string,
): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    const writer = new WindowWriter(handle);
    let at = 0;
    for await (const piece of sliceStream(model, plan, signal)) {
      await writer.write(piece, at);
      at += piece.byteLength;
    }
    await writer.flush();
  } catch (thrown) {
    throw diskFault(thrown, plan, file);
  } finally {
    await handle.close();
  }
}

/** Slices need as much room as the model has bytes, and the temporary folder may be a small one. */
function diskFault(thrown: unknown, plan: SlicePlan, file: string): unknown {
  const { code } = thrown as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT' && code !== 'EFBIG') return thrown;
  return new MinikeepError(
    'check.disk_full',
    `no room for a slice of ${plan.bytes} bytes in ${path.dirname(file)}`,
    { next: 'Free some space there, or name another folder with TMPDIR.', cause: thrown },
  );
}
