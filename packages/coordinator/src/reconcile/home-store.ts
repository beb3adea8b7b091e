/** What is wanted, kept in the database of the coordinator's home: on the disk before anything is done about it. */
import { MinikeepError } from '@minikeep/protocol';
import {
  readDeployments,
  readDraining,
  saveDeployment,
  saveDraining,
  type State,
} from '@minikeep/state';
import { ExactMode, type ContextSettings } from '@minikeep/protocol/v1';
import { z } from 'zod';
import type { WantedStore } from './store.ts';
import type { Placement } from './types.ts';

const COUNT = z.number().int().nonnegative();
const CONTEXT = z.strictObject({
  n_ctx: COUNT,
  n_batch: COUNT,
  n_seq_max: COUNT,
  mode: z.enum(['exact', 'fast']),
  threads: COUNT,
  gpu: z.boolean(),
});
/** The form on the disk: another version of minikeep reads it. */
const PLACEMENT = z.strictObject({
  model_path: z.string(),
  model_sha256: z.string(),
  architecture: z.string(),
  context: CONTEXT,
  stages: z
    .array(
      z.strictObject({
        node: z.string(),
        layers: z.tuple([COUNT, COUNT]),
        slice_bytes: COUNT,
        slice_sha256: z.string(),
        embedding_sha256: z.string(),
      }),
    )
    .min(1),
  text: z.boolean(),
  text_sha256: z.string(),
});

export function homeStore(state: State): WantedStore {
  return {
    lasting: true,
    rows: () =>
      state
        .read(readDeployments)
        .map((row) => ({ ...row, placement: parse(row.name, row.placement) })),
    drainingNodes: () => state.read(readDraining),
    save({ rows, draining }) {
      state.write((transaction) => {
        for (const row of rows)
          saveDeployment(transaction, { ...row, placement: format(row.placement) });
        for (const [node, on] of draining) saveDraining(transaction, node, on);
      });
    },
  };
}

function format(placement: Placement): string {
  return JSON.stringify({
    model_path: placement.modelPath,
    model_sha256: placement.modelSha256,
    architecture: placement.architecture,
    context: formatContext(placement.context),
    stages: placement.stages.map((stage) => ({
      node: stage.node,
      layers: [...stage.layers],
      slice_bytes: stage.sliceBytes,
      slice_sha256: stage.sliceSha256,
      embedding_sha256: stage.embeddingSha256,
    })),
    text: placement.text,
    text_sha256: placement.textSha256,
  } satisfies z.input<typeof PLACEMENT>);
}

function formatContext(context: ContextSettings): z.infer<typeof CONTEXT> {
  return {
    n_ctx: context.nCtx,
    n_batch: context.nBatch,
    n_seq_max: context.nSeqMax,
    mode: context.mode === ExactMode.EXACT_MODE_FAST ? 'fast' : 'exact',
    threads: context.threads,
    gpu: context.gpu,
  };
}

function parse(name: string, text: string): Placement {
  const parsed = PLACEMENT.safeParse(JSON.parse(text));
  if (!parsed.success)
    throw new MinikeepError(
      'state.placement_invalid',
      `the placement of ${name} in the database is not one: ${parsed.error.issues[0]?.message ?? ''}`,
      { next: 'Another version of minikeep wrote it: install that one again.' },
    );
  const { context, ...placement } = parsed.data;
  return {
    modelPath: placement.model_path,
    modelSha256: placement.model_sha256,
    architecture: placement.architecture,
    context: {
      nCtx: context.n_ctx,
      nBatch: context.n_batch,
      nSeqMax: context.n_seq_max,
      mode: context.mode === 'fast' ? ExactMode.EXACT_MODE_FAST : ExactMode.EXACT_MODE_EXACT,
      threads: context.threads,
      gpu: context.gpu,
    },
    stages: placement.stages.map((stage) => ({
      node: stage.node,
      layers: stage.layers,
      sliceBytes: stage.slice_bytes,
      sliceSha256: stage.slice_sha256,
      embeddingSha256: stage.embedding_sha256,
    })),
    text: placement.text,
    textSha256: placement.text_sha256,
  };
}
