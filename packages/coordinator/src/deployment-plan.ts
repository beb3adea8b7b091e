/** From a model file and a wish to what will be loaded where; everything is checked here, before anything is sent. */
import { checkCuts, openModel, planSlices, type Model, type SlicePlan } from '@minikeep/gguf';
import {
  EXIT,
  FRAME_BYTES_MAX,
  FRAME_TOKENS_MAX,
  MinikeepError,
  SEQUENCES_MAX,
} from '@minikeep/protocol';
import { ExactMode, type ContextSettings, type HelloResponse } from '@minikeep/protocol/v1';
import { modelFacts } from '@minikeep/planner';
import type { ModelLibrary, ModelSource } from '@minikeep/models';
import type { NodeLink } from './node-link.ts';
import { placeLayers } from './placement.ts';

const CONTEXT_TOKENS_DEFAULT = 4096;
const BATCH_ROWS_DEFAULT = 512;
/** Smaller batches can't avoid chunks of a single row (exact mode). */
const BATCH_ROWS_MIN = 4;
const CONTEXT_TOKENS_MAX = 16 * 1024 * 1024;
const THREADS_MAX = 256;

export interface ShapedStage {
  readonly node: NodeLink;
  readonly layers: readonly [number, number];
  readonly sliceBytes: number;
}

/** What a deployment is, planned now or kept from before: enough for engines that are loaded already. */
export interface DeploymentShape {
  readonly modelPath: string;
  readonly modelSha256: string;
  readonly architecture: string;
  readonly context: ContextSettings;
  readonly stages: readonly ShapedStage[];
}

export interface PlannedStage extends ShapedStage {
  readonly slice: SlicePlan;
  readonly embedding: SlicePlan | undefined;
}

/** Besides, what has to be cut and sent. */
export interface DeploymentPlan extends DeploymentShape {
  readonly model: Model;
  /** Where its bytes come from. */
  readonly source: ModelSource;
  readonly cuts: readonly number[];
  readonly stages: readonly PlannedStage[];
  /** Vocabulary and template, for the first node; undefined when not wanted. */
  readonly text: SlicePlan | undefined;
}

export interface DeploymentWish {
  /** A file on this machine, or an imported model, whose file may be away. */
  readonly model: string | { readonly sha256: string; readonly path: string };
  readonly cuts: readonly number[];
  readonly context: ContextSettings | undefined;
  readonly noText: boolean;
  /** The nodes may take their stages in another order than the given one, when that is quicker. */
  readonly anyOrder?: boolean;
  /** It was placed before with these cuts: whether that fits was looked at then. */
  readonly placed?: boolean;
  /** Bytes that engines hold now, by node, and will have given back by then. */
  readonly freed?: ReadonlyMap<string, number>;
}

/** Throws `gguf.*`, `slice.*`, `plan.*`, `deploy.*`. Progress is that of hashing, in bytes. */
export async function planDeployment(
  wish: DeploymentWish,
  nodes: readonly NodeLink[],
  library: ModelLibrary,
  onProgress: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<DeploymentPlan> {
  const imported =
    typeof wish.model === 'string'
      ? undefined
      : await library.importedSource(wish.model.sha256, wish.model.path);
  const model = imported?.model ?? (await openModel(String(wish.model)));
  const hellos = await Promise.all(nodes.map((node) => node.reachable()));
  const context = contextFor(wish.context, model, hellos);
  if (wish.cuts.length > 0) checkCuts(model, wish.cuts);
  if (wish.cuts.length >= nodes.length)
    throw new MinikeepError(
      'deploy.too_few_nodes',
      `${wish.cuts.length + 1} stages need as many nodes, there are ${nodes.length}`,
      { next: 'Give fewer cuts, or more nodes.', exitCode: EXIT.usage },
    );
  const { cuts, nodes: placed } =
    wish.placed === true
      ? { cuts: wish.cuts, nodes }
      : placeLayers(model, nodes, hellos, context, wish);
  const slices = planSlices(model, cuts);
  const embedding = slices.find((s) => s.kind === 'embedding');
  const stages = slices
    .filter((s) => s.kind === 'stage')
    .map((slice, i): PlannedStage => {
      const node = placed[i];
      if (node === undefined) throw new Error('a stage without a node');
      const { layers, bytes: sliceBytes } = slice;
      return { node, layers, sliceBytes, slice, embedding: i === 0 ? embedding : undefined };
    });
  const source = imported ?? (await library.sourceOf(model, onProgress, signal));
  const modelSha256 = source.known.sha256;
  const text = wish.noText ? undefined : slices.find((s) => s.kind === 'text');
  const { architecture } = model;
  const modelPath = typeof wish.model === 'string' ? model.path : wish.model.path;
  return { model, modelPath, modelSha256, source, architecture, cuts, context, stages, text };
}

/** Fills in defaults and checks the bounds that frames and engines have. */
function contextFor(
  wish: ContextSettings | undefined,
  model: Model,
  hellos: readonly HelloResponse[],
): ContextSettings {
  const trained = modelFacts(model).contextLength;
  const fewestCores = Math.min(...hellos.map((h) => h.cpuCount));
  const context: ContextSettings = {
    nCtx: wish?.nCtx || Math.min(trained || CONTEXT_TOKENS_DEFAULT, CONTEXT_TOKENS_DEFAULT),
    nBatch: wish?.nBatch || BATCH_ROWS_DEFAULT,
    nSeqMax: wish?.nSeqMax || 1,
    mode: wish?.mode || ExactMode.EXACT_MODE_EXACT,
    // llama.cpp's threads wait for each other by spinning: on cores that other work needs (or that are two faces of one)
    // all of them are far slower than half.
    threads: wish?.threads || Math.max(1, Math.floor(fewestCores / 2)),
    gpu: wish?.gpu ?? true,
  };
  const rowBytes = modelFacts(model).embeddingLength * 4;
  // A frame also has its tokens, spans and operations: one part in sixteen is far more than they need.
  const rowsMax = Math.min(FRAME_TOKENS_MAX, Math.floor((FRAME_BYTES_MAX * 15) / 16 / rowBytes));
  const bounds: [string, number, number, number][] = [
    ['context', context.nCtx, 1, CONTEXT_TOKENS_MAX],
    ['batch', context.nBatch, BATCH_ROWS_MIN, rowsMax],
    ['parallel', context.nSeqMax, 1, Math.min(SEQUENCES_MAX, context.nBatch)],
    ['threads', context.threads, 1, THREADS_MAX],
  ];
  for (const [name, value, min, max] of bounds)
    if (!Number.isInteger(value) || value < min || value > max)
      throw new MinikeepError(
        'deploy.setting_invalid',
        `${name} is ${value}, possible are ${min} to ${max}`,
        {
          next: `Choose another --${name}.`,
          exitCode: EXIT.usage,
          details: { setting: name, value, min, max },
        },
      );
  return context;
}
