/** The steps that bring a planned deployment up; each can be aborted at any moment. */
import { MinikeepError, identityUri } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { EngineReady } from '@minikeep/protocol/v1';
import type { DeploymentPlan, DeploymentShape } from './deployment-plan.ts';
import { stageName } from './diagnose.ts';
import { loadEngines, type EngineToLoad } from './load-stages.ts';
import { sendSlices, type SendOptions, type SliceForNode } from './send-slices.ts';
import type { NodeLink, OwnPlace } from './node-link.ts';

/** Names of what each node was sent (`sliceDigest`). */
export interface PlacedDigests {
  readonly stages: readonly { readonly slice: string; readonly embedding: string }[];
  readonly text: string | undefined;
}

/** All, or those on the named nodes: the others may be connected again. */
export type EnginesToEnd = 'all' | readonly string[];

/** Which parts of a plan are to be brought up. */
export interface PlanParts {
  /** Positions of stages. */
  readonly stages: ReadonlySet<number>;
  /** The text engine, on the first node. */
  readonly text: boolean;
}

export interface StepOptions {
  readonly deployment: string;
  readonly epoch: number;
  readonly plan: DeploymentPlan;
  readonly parts: PlanParts;
  readonly signal: AbortSignal;
}

export const wholePlan = (plan: DeploymentPlan): PlanParts => ({
  stages: new Set(plan.stages.keys()),
  text: plan.text !== undefined,
});

export interface ConnectOptions extends Omit<StepOptions, 'plan' | 'parts'> {
  readonly shape: DeploymentShape;
  readonly session: number;
  /** For one stage; one that was connected before finishes its steps first. */
  readonly timeoutMs: number;
}

/** Brings the parts' slices to their nodes; what was not asked for has an empty digest. Throws `store.*`, `gguf.*`, `node.*`. */
export async function sendAll(
  { deployment, plan, parts, signal }: StepOptions,
  ways: Pick<SendOptions, 'origin' | 'nodes' | 'own'>,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<PlacedDigests> {
  const wanted = slicesOf(plan, parts);
  const placed = await sendSlices(wanted, {
    ...ways,
    deployment,
    source: plan.source,
    signal,
    onProgress,
  });
  const digest = (slice: unknown): string => placed.find((p) => p.plan === slice)?.sha256 ?? '';
  return {
    stages: plan.stages.map((stage) => ({
      slice: digest(stage.slice),
      embedding: digest(stage.embedding),
    })),
    text: plan.text === undefined || !parts.text ? undefined : digest(plan.text),
  };
}

/** What has to lie on which node. */
export function slicesOf(plan: DeploymentPlan, parts: PlanParts): SliceForNode[] {
  const wanted: SliceForNode[] = plan.stages
    .filter((_, i) => parts.stages.has(i))
    .flatMap(({ node, slice, embedding }) => [
      { node, plan: slice },
      ...(embedding === undefined ? [] : [{ node, plan: embedding }]),
    ]);
  const first = plan.stages[0]?.node;
  if (parts.text && plan.text !== undefined && first !== undefined)
    wanted.push({ node: first, plan: plan.text });
  return wanted;
}

/** The text engine, on the first node. */
export function textEngineToLoad(
  { deployment, epoch }: Pick<StepOptions, 'deployment' | 'epoch'>,
  node: NodeLink | undefined,
  fileSha256: string,
  bytes: number,
): EngineToLoad[] {
  if (node === undefined) return [];
  const engine = { $case: 'text' as const, value: { fileSha256 } };
  return [{ node, bytes, request: { deployment, epoch, engine } }];
}

/** Loads the parts' engines; returns those of its stages, in order. Throws `engine.*`, `sandbox.*`, `store.*`, `version.engine_mismatch`. */
export async function loadAll(
  options: StepOptions,
  digests: PlacedDigests,
  onProgress: (fraction: number) => void,
): Promise<EngineReady[]> {
  const { deployment, epoch, plan, parts, signal } = options;
  const stages = [...plan.stages.entries()].flatMap(([i, { node, slice }]): EngineToLoad[] => {
    if (!parts.stages.has(i)) return [];
    const value = {
      sliceSha256: digests.stages[i]?.slice ?? '',
      embeddingSha256: digests.stages[i]?.embedding ?? '',
      first: slice.first,
      last: slice.last,
      layers: { start: slice.layers[0], end: slice.layers[1] },
      context: plan.context,
    };
    const engine = { $case: 'stage' as const, value };
    return [{ node, bytes: slice.bytes, request: { deployment, epoch, engine } }];
  });
  const text =
    digests.text === undefined
      ? []
      : textEngineToLoad(options, plan.stages[0]?.node, digests.text, plan.text?.bytes ?? 0);
  const ready = await loadEngines([...stages, ...text], onProgress, signal);
  return ready.slice(0, stages.length);
}

/** Engines of a deployment that ran before: of each stage, or undefined where it is gone. */
export interface RunningEngines {
  readonly stages: readonly (EngineReady | undefined)[];
  /** The stages that are gone. */
  readonly missing: readonly number[];
  /** The last session that these stages were connected with; 0: none yet. */
  readonly session: number;
  /** The text engine's file, and whether one runs; undefined: the deployment has none. */
  readonly text: { readonly sha256: string; readonly loaded: boolean } | undefined;
  /** What was brought there when it was placed. */
  readonly digests: PlacedDigests;
  /** Needed when a stage is gone. */
  readonly plan: DeploymentPlan | undefined;
}

/** Brings back the stages that are gone, and with the first one the text engine; the others are not touched. Throws `deploy.slices_changed`. */
export async function loadMissing(
  running: RunningEngines,
  { plan, ...rest }: Omit<StepOptions, 'parts'>,
  ways: Pick<SendOptions, 'origin' | 'nodes' | 'own'>,
  onProgress: {
    readonly sending: (doneBytes: number, totalBytes: number) => void;
    readonly loading: (fraction: number) => void;
  },
): Promise<EngineReady[]> {
  const stages = new Set(running.missing);
  const text = stages.has(0) && running.text?.loaded === false;
  const options = { ...rest, plan, parts: { stages, text } };
  const digests = await sendAll(options, ways, onProgress.sending);
  for (const i of stages)
    if (digests.stages[i]?.slice !== running.digests.stages[i]?.slice) throw slicesChanged();
  const loaded = await loadAll(options, digests, onProgress.loading);
  const engines = new Map([...stages].map((stage, i) => [stage, loaded[i]]));
  return running.stages.flatMap((engine, i) => engine ?? engines.get(i) ?? []);
}

/** Another version cuts otherwise: a stage of its making does not fit those of before. */
const slicesChanged = (): MinikeepError =>
  new MinikeepError('deploy.slices_changed', 'slices are no longer cut as those that run were', {
    next: 'Wait: all stages are loaded anew.',
  });

/** Connects the stages from the last to the first, so that every stream finds somebody who expects it. */
export async function connectAll(
  { deployment, epoch, session, shape, timeoutMs, signal }: ConnectOptions,
  own: OwnPlace,
  onProgress: (fraction: number) => void,
): Promise<void> {
  const { stages } = shape;
  for (let i = stages.length - 1; i >= 0; i--) {
    const [before, stage, after] = [stages[i - 1], stages[i], stages[i + 1]];
    if (stage === undefined) continue;
    await stage.node.agent.connect(
      {
        deployment,
        epoch,
        upstream: before === undefined ? own.uri : identityUri(before.node.identity),
        downstream: after === undefined ? own.uri : identityUri(after.node.identity),
        downstreamAddresses: [...(after?.node.waysFromElsewhere ?? own.addressesFor(stage.node))],
        session,
      },
      { signal: deadline(timeoutMs, signal) },
    );
    onProgress((stages.length - i) / (stages.length + 1));
  }
}

/** Stages that don't fit together would compute rubbish. */
export function checkEqual(plan: DeploymentShape, engines: readonly EngineReady[]): void {
  const [first] = engines;
  for (const [i, engine] of engines.entries()) {
    const stage = plan.stages[i];
    const layers = (stage?.layers[1] ?? 0) - (stage?.layers[0] ?? 0);
    let different: string | undefined;
    if (engine.llamaVersion !== first?.llamaVersion)
      different = `runs llama.cpp ${engine.llamaVersion}, stage 1 runs ${first?.llamaVersion ?? ''}`;
    else if (engine.nEmbd !== first.nEmbd)
      different = `has rows of ${engine.nEmbd} values, stage 1 has ${first.nEmbd}`;
    else if (engine.nLayer !== layers)
      different = `loaded ${engine.nLayer} layers instead of ${layers}`;
    if (different === undefined) continue;
    throw new MinikeepError('version.engine_mismatch', `${stageName(stage, i)} ${different}`, {
      next: 'Install the same version of minikeep on every node.',
    });
  }
}
