/** Starts a real engine in its sandbox, where this process runs, and lets it compute: what only a trial can tell. */
import type { SandboxPlatform } from '@minikeep/containment';
import { checkModel, startEngine, type EngineEvent } from '@minikeep/engine';
import { allowedCuts, openModel } from '@minikeep/gguf';
import { toMinikeepError } from '@minikeep/protocol';
import type { EngineFacts, ModelCheckFacts } from './facts.ts';

export interface TrialOptions {
  readonly platform: SandboxPlatform;
  /** dist/ */
  readonly programs: string;
  /** A small GGUF file to load. */
  readonly model: string;
  /** A folder for slices; what is made in it is removed again. */
  readonly folder: string;
  readonly signal: AbortSignal;
}

const PROMPT_TOKENS = 24;
const TOKENS = 8;
/** One thread: two that wait for each other on a busy machine take ten times as long. */
const CONTEXT = { n_ctx: 256, n_batch: 64, n_seq_max: 1, mode: 'exact', threads: 1 } as const;
const gpu = process.platform === 'darwin';

/** Never throws but the signal's reason: an engine that doesn't start is a fact. */
export async function tryEngine(options: TrialOptions): Promise<EngineFacts> {
  const denials: string[] = [];
  try {
    const model = await openModel(options.model);
    const onEvent = (event: EngineEvent): void => {
      if (event.type === 'violation')
        denials.push(
          `${event.violation.kind} ${event.violation.operation} ${event.violation.target}`.trim(),
        );
    };
    const engine = await startEngine({
      platform: options.platform,
      programs: options.programs,
      signal: options.signal,
      onEvent,
      load: {
        type: 'load_stage',
        slice: options.model,
        first: true,
        last: true,
        layers: [0, layersOf(model)],
        context: { ...CONTEXT, gpu },
      },
    });
    const { llama_version, backends, devices } = engine.hello;
    await engine.stop();
    return { started: true, llama_version, backends, devices, denials: [...new Set(denials)] };
  } catch (thrown) {
    options.signal.throwIfAborted();
    const { message, next } = toMinikeepError(thrown);
    return { started: false, why: message, next };
  }
}

type OpenedModel = Awaited<ReturnType<typeof openModel>>;

const layersOf = (model: OpenedModel): number => (allowedCuts(model).at(-1) ?? 0) + 1;

/** The embedded model whole and cut in the middle, on this machine's own backend. */
export async function tryModelCheck(
  options: TrialOptions,
  engine: EngineFacts,
): Promise<ModelCheckFacts> {
  if (!engine.started) return { status: 'not_run', why: 'no engine starts here' };
  const backend =
    engine.devices.find((device) => device.kind === 'gpu' || device.kind === 'igpu')?.description ??
    engine.backends.at(-1) ??
    'CPU';
  try {
    const model = await openModel(options.model);
    const cuts = allowedCuts(model);
    const middle = cuts[cuts.length >> 1];
    if (middle === undefined) return { status: 'not_run', why: 'the embedded model has no cut' };
    const result = await checkModel({
      model,
      cuts: [middle],
      folder: options.folder,
      programs: options.programs,
      platform: options.platform,
      promptTokens: PROMPT_TOKENS,
      tokens: TOKENS,
      threads: CONTEXT.threads,
      mode: 'exact',
      gpu,
      signal: options.signal,
    });
    if (result.identical) return { status: 'exact', backend };
    return { status: 'differs', by: result.max_logit_difference, backend };
  } catch (thrown) {
    options.signal.throwIfAborted();
    return { status: 'not_run', why: toMinikeepError(thrown).message };
  }
}
