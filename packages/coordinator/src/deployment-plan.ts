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
import {
  defaultWiredLimit,
  highestWiredLimit,
  modelFacts,
  plan,
  type NodeFacts,
} from '@minikeep/planner';
import type { ModelLibrary, ModelSource } from '@minikeep/models';
import type { NodeLink } from './node-link.ts';

const CONTEXT_TOKENS_DEFAULT = 4096;
const BATCH_ROWS_DEFAULT = 512;
/** Smaller batches can't avoid chunks of a single row (exact mode). */
const BATCH_ROWS_MIN = 4;
const CONTEXT_TOKENS_MAX = 16 * 1024 * 1024;
const THREADS_MAX = 256;
/** Kept for the system and the trusted processes. */
const MEMORY_RESERVE_BYTES = 512 * 1024 * 1024;

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
  const cuts = wish.placed === true ? wish.cuts : placeLayers(model, nodes, hellos, context, wish);
  const slices = planSlices(model, cuts);
  const embedding = slices.find((s) => s.kind === 'embedding');
  const stages = slices
    .filter((s) => s.kind === 'stage')
    .map((slice, i): PlannedStage => {
      const node = nodes[i];
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

/**
 * Cuts that the planner chooses; asked for cuts are checked against memory as well. Agents of one machine share its
 * memory: a local cluster must not be promised the same bytes twice.
 */
function placeLayers(
  model: Model,
  nodes: readonly NodeLink[],
  hellos: readonly HelloResponse[],
  context: ContextSettings,
  { cuts, freed }: Pick<DeploymentWish, 'cuts' | 'freed'>,
): readonly number[] {
  const used = cuts.length > 0 ? nodes.slice(0, cuts.length + 1) : nodes;
  const machines = new Set(hellos.map((hello) => hello.machine));
  // What one agent of a shared machine gives back, any of them can have.
  const allFreed = [...(freed?.values() ?? [])].reduce((sum, bytes) => sum + bytes, 0);
  const budgets = used.map((node, i) =>
    budgetOf(
      hellos[i],
      node.heartbeat?.memoryAvailableBytes,
      machines.size === 1 ? allFreed : freed?.get(node.name),
    ),
  );
  const placement = plan(
    modelFacts(model),
    used.map((node, i) => ({ name: node.name, budgetBytes: budgets[i] ?? 0, ...speedOf(node) })),
    {
      contextTokens: context.nCtx,
      parallel: context.nSeqMax,
      batchRows: context.nBatch,
      mode: context.mode === ExactMode.EXACT_MODE_FAST ? 'fast' : 'exact',
      ...(cuts.length > 0 ? { cuts } : {}),
      ...(machines.size === 1 ? { sharedBudgetBytes: Math.min(...budgets) } : {}),
    },
  );
  return placement.cuts;
}

/** What was measured there, if it was; nodes that were not all measured count as equal. */
const speedOf = ({ speed }: NodeLink): Partial<NodeFacts> =>
  speed === undefined
    ? {}
    : {
        memoryBytesPerSecond: speed.memoryBytesPerSecond,
        operationsPerSecond: speed.operationsPerSecond,
      };

/** macOS counts memory that only caches files as used: there, what the GPU may hold. */
function budgetOf(
  hello: HelloResponse | undefined,
  availableNow: number | undefined,
  freed = 0,
): number {
  if (hello === undefined) return 0;
  if (hello.platform.startsWith('darwin'))
    return Math.min(
      hello.wiredLimitBytes || defaultWiredLimit(hello.memoryBytes),
      highestWiredLimit(hello.memoryBytes),
    );
  return Math.max(0, (availableNow ?? hello.memoryAvailableBytes) + freed - MEMORY_RESERVE_BYTES);
}
