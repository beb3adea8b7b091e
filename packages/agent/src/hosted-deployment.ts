/**
 * One deployment's part on this node: the stage's engine, perhaps the text engine, their slices. A new epoch starts
 * with nothing of the old one.
 */
import type {
  ContextSettings,
  LoadStage,
  LoadText,
  TextRequest,
  TextResult,
} from '@minikeep/engine';
import { MinikeepError } from '@minikeep/protocol';
import { toErrorDetail, type CredentialPems } from '@minikeep/protocol/rpc';
import {
  EngineKind,
  ExactMode,
  type ContextSettings as ContextMessage,
  type EngineReady,
  type LoadRequest,
} from '@minikeep/protocol/v1';
import type { EngineListeners, EnginePort, EngineStarter } from './engine-port.ts';
import type { EventHub } from './event-hub.ts';
import { processState } from './process-state.ts';
import type { SliceStore } from './slice-store.ts';
import { Stage } from './stage.ts';
import { violationEvent } from './violation-event.ts';

/** Checking the slice's digest counts as this part of loading. */
const VERIFY_SHARE = 0.2;
/** Killing takes milliseconds; this is the limit after which the agent says that it could not. */
const KILL_TIMEOUT_MS = 5_000;

export interface HostOptions {
  readonly node: string;
  readonly deployment: string;
  readonly epoch: number;
  readonly store: SliceStore;
  readonly hub: EventHub;
  readonly credentials: CredentialPems;
  readonly startEngine: EngineStarter;
}

interface Running {
  readonly kind: EngineKind;
  readonly engine: EnginePort;
}

export class HostedDeployment {
  readonly #options: HostOptions;
  readonly #running = new Set<Running>();
  #stage: Stage | undefined;
  #stageEngine: EnginePort | undefined;
  #textEngine: EnginePort | undefined;
  #ending = false;

  constructor(options: HostOptions) {
    this.#options = options;
  }

  get epoch(): number {
    return this.#options.epoch;
  }

  get stage(): Stage | undefined {
    return this.#stage;
  }

  /** Verifies, starts, loads. Aborting the signal kills the engine. Throws `store.*`, `sandbox.*`, `engine.*`. */
  async load(
    request: LoadRequest,
    onProgress: (fraction: number) => void,
    signal: AbortSignal,
  ): Promise<EngineReady> {
    const { engine: what } = request;
    if (what === undefined) throw badRequest('it names no engine');
    const kind =
      what.$case === 'stage' ? EngineKind.ENGINE_KIND_STAGE : EngineKind.ENGINE_KIND_TEXT;
    if ([...this.#running].some((r) => r.kind === kind))
      throw badRequest('such an engine already runs');
    const digests =
      what.$case === 'stage'
        ? [what.value.sliceSha256, what.value.embeddingSha256].filter((d) => d !== '')
        : [what.value.fileSha256];
    const files = await this.#verified(digests, (f) => onProgress(f * VERIFY_SHARE), signal);
    const [first, second] = files;
    if (first === undefined) throw badRequest('it names no slice');
    const load: LoadStage | LoadText =
      what.$case === 'text'
        ? { type: 'load_text', file: first }
        : {
            type: 'load_stage',
            slice: first,
            ...(second === undefined ? {} : { embedding: second }),
            first: what.value.first,
            last: what.value.last,
            layers: [what.value.layers?.start ?? 0, what.value.layers?.end ?? 0],
            context: contextOf(what.value.context),
          };
    const engine = await this.#start(load, kind, files, (f) =>
      onProgress(VERIFY_SHARE + f * (1 - VERIFY_SHARE)),
    );
    const abort = (): void => void engine.kill('loading was cancelled');
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      const ready = await engine.ready;
      if (kind === EngineKind.ENGINE_KIND_TEXT) this.#textEngine = engine;
      return {
        nVocab: ready.n_vocab,
        nEmbd: ready.n_embd,
        nLayer: ready.n_layer,
        memory: {
          weightsBytes: ready.memory.weights_bytes,
          kvBytes: ready.memory.kv_bytes,
          computeBytes: ready.memory.compute_bytes,
        },
        loadSeconds: ready.load_seconds,
        sandboxed: engine.sandboxed,
        llamaVersion: engine.llamaVersion,
        backends: [...engine.backends],
        enginePid: engine.pid,
      };
    } catch (error) {
      await engine.kill('loading failed');
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async text(request: TextRequest, timeoutMs: number): Promise<TextResult> {
    if (this.#textEngine === undefined)
      throw new MinikeepError('engine.no_text', 'this node has no text engine for the deployment', {
        next: 'Deploy again; a model without a vocabulary takes token ids only.',
      });
    return this.#textEngine.text(request, { timeoutMs });
  }

  /** What the coordinator asks when the pipeline is silent. */
  async engineState(): Promise<{ alive: boolean; stopped: boolean; cpuSeconds: number }> {
    const engine = this.#stageEngine;
    const state = engine === undefined ? undefined : await processState(engine.pid);
    return {
      alive: state !== undefined && [...this.#running].some((r) => r.engine === engine),
      stopped: state?.stopped ?? false,
      cpuSeconds: state?.cpuSeconds ?? 0,
    };
  }

  /** Kills the engines and lets go of the slices. */
  async end(reason: string): Promise<void> {
    await this.endEngines(reason);
    await this.#options.store.release(this.#options.deployment);
  }

  /** Kills the engines; the slices stay pinned for the next epoch. */
  async endEngines(reason: string): Promise<void> {
    this.#ending = true;
    this.#stage?.close();
    const kills = [...this.#running].map((r) => r.engine.kill(reason));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, KILL_TIMEOUT_MS);
    });
    await Promise.race([Promise.allSettled(kills), late]);
    clearTimeout(timer);
  }

  async #verified(
    digests: readonly string[],
    onProgress: (fraction: number) => void,
    signal: AbortSignal,
  ): Promise<string[]> {
    const { store, deployment } = this.#options;
    const files: string[] = [];
    for (const [i, digest] of digests.entries()) {
      await store.verify(deployment, digest, (f) => onProgress((i + f) / digests.length), signal);
      files.push(await store.pinnedPath(deployment, digest));
    }
    return files;
  }

  async #start(
    load: LoadStage | LoadText,
    kind: EngineKind,
    files: readonly string[],
    onProgress: (fraction: number) => void,
  ): Promise<EnginePort> {
    const { deployment, epoch, hub, credentials } = this.#options;
    const listeners: EngineListeners = {
      onProgress,
      onFrame: (payload) => this.#stage?.forward(payload),
      onLog: (level, text) =>
        hub.emit({ $case: 'engineLog', value: { deployment, kind, level, text } }),
      onViolation: (violation) =>
        hub.emit({
          $case: 'violation',
          value: violationEvent(violation, this.#options.node, deployment),
        }),
      onStepError: (step, stepEpoch, fault) => {
        this.#stage?.dropped();
        const error = { ...fault, exitCode: 1, details: {} };
        hub.emit({ $case: 'stepFault', value: { deployment, epoch: stepEpoch, step, error } });
      },
    };
    const engine = await this.#options.startEngine({ load, files, listeners });
    // It may have been ended while the process started.
    if (this.#ending) {
      await engine.kill('the deployment ended');
      throw badRequest('the deployment ended meanwhile');
    }
    const running: Running = { kind, engine };
    this.#running.add(running);
    if (kind === EngineKind.ENGINE_KIND_STAGE) {
      this.#stageEngine = engine;
      this.#stage = new Stage({
        deployment,
        epoch,
        credentials,
        engine,
        onFault: (downstream, neighbour, error) =>
          hub.emit({
            $case: 'pipelineFault',
            value: { deployment, epoch, downstream, neighbour, error: toErrorDetail(error) },
          }),
      });
    }
    void engine.exited.then((exit) => this.#exited(running, exit));
    return engine;
  }

  #exited(
    running: Running,
    exit: {
      readonly code: number | null;
      readonly signal: string | null;
      readonly reason: string;
      readonly violations: number;
      readonly stderr_tail: string;
    },
  ): void {
    const { deployment, epoch, hub } = this.#options;
    this.#running.delete(running);
    if (running.kind === EngineKind.ENGINE_KIND_STAGE) this.#stage?.close();
    hub.emit({
      $case: 'engineExit',
      value: {
        deployment,
        epoch,
        kind: running.kind,
        reason: exit.reason,
        exitCode: exit.code ?? -1,
        signal: exit.signal ?? '',
        violations: exit.violations,
        stderrTail: exit.stderr_tail,
        unexpected: !this.#ending,
      },
    });
  }
}

function contextOf(context: ContextMessage | undefined): ContextSettings {
  if (context === undefined) throw badRequest('it has no context settings');
  return {
    n_ctx: context.nCtx,
    n_batch: context.nBatch,
    n_seq_max: context.nSeqMax,
    mode: context.mode === ExactMode.EXACT_MODE_FAST ? 'fast' : 'exact',
    threads: context.threads,
    gpu: context.gpu,
  };
}

function badRequest(why: string): MinikeepError {
  return new MinikeepError('node.bad_request', `an engine was not loaded: ${why}`, {
    next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
  });
}
