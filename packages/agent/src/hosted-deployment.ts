/**
 * One deployment's part on this node: the stage's engine, perhaps the text engine, their slices. A new epoch starts
 * with nothing of the old one.
 */
import type { SandboxPlatform, Struck } from '@minikeep/containment';
import {
  startEngine,
  type EngineClient,
  type EngineEvent,
  type LoadStage,
  type LoadText,
  type TextRequest,
  type TextResult,
} from '@minikeep/engine';
import { MinikeepError } from '@minikeep/protocol';
import { toErrorDetail, type CredentialPems } from '@minikeep/protocol/rpc';
import {
  EngineKind,
  type EngineReady,
  type HostedPart,
  ViolationPolicy,
  type LoadRequest,
} from '@minikeep/protocol/v1';
import type { EventHub } from './event-hub.ts';
import { badLoad, loadStageMessage } from './load-message.ts';
import { processState, type ProcessState } from './process-state.ts';
import type { SliceStore } from './slice-store.ts';
import { Stage } from './stage.ts';
import { quarantined, struckMessage } from './struck.ts';
import type { Violations } from './violations.ts';

/** Checking the slices' digests counts as this part of loading. */
const VERIFY_SHARE = 0.2;
/** Killing takes milliseconds; after this the agent goes on without having seen the end. */
const KILL_TIMEOUT_MS = 5_000;

export interface HostOptions {
  readonly node: string;
  readonly deployment: string;
  readonly epoch: number;
  readonly store: SliceStore;
  readonly hub: EventHub;
  readonly violations: Violations;
  readonly credentials: CredentialPems;
  readonly platform: SandboxPlatform;
  /** False with --unsafe-no-sandbox. */
  readonly sandboxed: boolean;
  /** Resolves once a canary held on this node, just now; absent in a throw-away cluster. */
  readonly canaryFirst?: (signal: AbortSignal) => Promise<void>;
  /** Folder of the bundles and libraries. */
  readonly programs: string;
}

export class HostedDeployment {
  readonly #options: HostOptions;
  /** Engines that run or are being started; at most one of each kind. */
  readonly #engines = new Map<EngineKind, EngineClient | 'starting'>();
  /** What each of them was asked to load. */
  readonly #loads = new Map<EngineKind, NonNullable<LoadRequest['engine']>>();
  /** Aborted when this part ends: kills what is still being started. */
  readonly #over = new AbortController();
  #stage: Stage | undefined;
  /** An engine of this epoch tried to get out: none is started any more. */
  #struck: Struck | undefined;

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
    if (what === undefined) throw badLoad('it names no engine');
    const kind =
      what.$case === 'stage' ? EngineKind.ENGINE_KIND_STAGE : EngineKind.ENGINE_KIND_TEXT;
    if (this.#engines.has(kind)) throw badLoad('such an engine already runs');
    // A coordinator that was started meanwhile may not know.
    if (this.#struck !== undefined) throw quarantined(this.#options, this.#struck);
    this.#engines.set(kind, 'starting');
    this.#loads.set(kind, what);
    try {
      const either = AbortSignal.any([signal, this.#over.signal]);
      const digests =
        what.$case === 'stage'
          ? [what.value.sliceSha256, what.value.embeddingSha256].filter((d) => d !== '')
          : [what.value.fileSha256];
      const [first, second] = await this.#verified(digests, onProgress, either);
      if (first === undefined) throw badLoad('it names no slice');
      const load: LoadStage | LoadText =
        what.$case === 'text'
          ? { type: 'load_text', file: first }
          : loadStageMessage(what.value, first, second);
      const engine = await this.#tried(
        startEngine({
          platform: this.#options.platform,
          programs: this.#options.programs,
          load,
          signal: either,
          policy: request.policy === ViolationPolicy.VIOLATION_POLICY_REPORT ? 'record' : 'strike',
          onEvent: (event) => this.#event(kind, event, onProgress),
        }),
        either,
      );
      this.#started(kind, engine);
      return this.#readyMessage(engine);
    } catch (error) {
      this.#engines.delete(kind);
      throw this.#struck === undefined ? error : quarantined(this.#options, this.#struck);
    }
  }

  async text(request: TextRequest, timeoutMs: number): Promise<TextResult> {
    const engine = this.#engines.get(EngineKind.ENGINE_KIND_TEXT);
    if (engine === undefined || engine === 'starting')
      throw new MinikeepError('engine.no_text', 'this node has no text engine for the deployment', {
        next: 'Deploy again; a model without a vocabulary takes token ids only.',
      });
    try {
      return await engine.text(request, { timeoutMs });
    } catch (error) {
      throw this.#struck === undefined ? error : quarantined(this.#options, this.#struck);
    }
  }

  /** What is here, for a coordinator that does not remember. */
  inventory(): HostedPart {
    const { deployment, epoch } = this.#options;
    const ready = (kind: EngineKind): EngineReady | undefined => {
      const engine = this.#engines.get(kind);
      return engine === undefined || engine === 'starting' ? undefined : this.#readyMessage(engine);
    };
    const stage = this.#loads.get(EngineKind.ENGINE_KIND_STAGE);
    const stageReady = ready(EngineKind.ENGINE_KIND_STAGE);
    const text = this.#loads.get(EngineKind.ENGINE_KIND_TEXT);
    const textReady = ready(EngineKind.ENGINE_KIND_TEXT);
    return {
      deployment,
      epoch,
      stage:
        stage?.$case === 'stage' && stageReady !== undefined
          ? { load: stage.value, ready: stageReady, session: this.#stage?.session ?? 0 }
          : undefined,
      text:
        text?.$case === 'text' && textReady !== undefined
          ? { load: text.value, ready: textReady }
          : undefined,
      starting: [...this.#engines.values()].includes('starting'),
    };
  }

  engines(): EngineClient[] {
    return [...this.#engines.values()].filter((engine) => engine !== 'starting');
  }

  /** The stage engine's process; undefined when there is none. */
  async engineState(): Promise<ProcessState | undefined> {
    const engine = this.#engines.get(EngineKind.ENGINE_KIND_STAGE);
    return engine === undefined || engine === 'starting' ? undefined : processState(engine.pid);
  }

  /** Kills the engines and lets go of the slices. */
  async end(reason: string): Promise<void> {
    await this.endEngines(reason);
    await this.#options.store.release(this.#options.deployment);
  }

  /** Kills the engines; the slices stay pinned for the next epoch. */
  async endEngines(reason: string): Promise<void> {
    this.#over.abort(
      new MinikeepError('deployment.ended', `the deployment was ended: ${reason}`, {
        next: 'Deploy again.',
      }),
    );
    this.#stage?.close();
    const kills = [...this.#engines.values()].flatMap((e) =>
      e === 'starting' ? [] : [e.kill(reason)],
    );
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, KILL_TIMEOUT_MS);
    });
    await Promise.race([Promise.allSettled(kills), late]);
    clearTimeout(timer);
  }

  /** An engine counts only together with a canary that held: both go on at once, for loading takes time. */
  async #tried(starting: Promise<EngineClient>, signal: AbortSignal): Promise<EngineClient> {
    const { canaryFirst } = this.#options;
    const [engine, canary] = await Promise.allSettled([starting, canaryFirst?.(signal)]);
    if (engine.status === 'rejected') throw engine.reason;
    if (canary.status === 'fulfilled') return engine.value;
    await engine.value.kill('the canary of this node did not hold');
    throw canary.reason;
  }

  async #verified(
    digests: readonly string[],
    onProgress: (fraction: number) => void,
    signal: AbortSignal,
  ): Promise<string[]> {
    const { store, deployment } = this.#options;
    const files: string[] = [];
    for (const [i, digest] of digests.entries()) {
      const progress = (fraction: number): void =>
        onProgress(((i + fraction) / digests.length) * VERIFY_SHARE);
      await store.verify(deployment, digest, progress, signal);
      files.push(await store.pinnedPath(deployment, digest));
    }
    return files;
  }

  #started(kind: EngineKind, engine: EngineClient): void {
    const { deployment, epoch, credentials, hub } = this.#options;
    this.#engines.set(kind, engine);
    if (kind === EngineKind.ENGINE_KIND_STAGE) {
      const stage = new Stage({
        deployment,
        epoch,
        credentials,
        engine,
        onFault: ({ error, ...fault }) =>
          hub.emit({
            $case: 'pipelineFault',
            value: { deployment, epoch, ...fault, error: toErrorDetail(error) },
          }),
      });
      engine.onFrame((payload) => stage.forward(payload));
      this.#stage = stage;
    }
  }

  #readyMessage(engine: EngineClient): EngineReady {
    const { ready, hello } = engine;
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
      sandboxed: this.#options.sandboxed,
      llamaVersion: hello.llama_version,
      backends: [...hello.backends],
      enginePid: engine.pid,
    };
  }

  #event(kind: EngineKind, event: EngineEvent, onProgress: (fraction: number) => void): void {
    const { deployment, epoch, hub } = this.#options;
    switch (event.type) {
      case 'progress':
        onProgress(VERIFY_SHARE + event.fraction * (1 - VERIFY_SHARE));
        return;
      case 'log': {
        const { level, text } = event;
        hub.emit({ $case: 'engineLog', value: { deployment, kind, level, text } });
        return;
      }
      case 'violation':
        this.#options.violations.emit(event.violation, deployment, epoch);
        return;
      case 'step_error': {
        const session = this.#stage?.session ?? 0;
        if (this.#stage?.dropped() !== true) return;
        const error = { ...event.error, exitCode: 1, details: {} };
        const { epoch: stepEpoch, step } = event;
        hub.emit({
          $case: 'stepFault',
          value: { deployment, epoch: stepEpoch, session, step, error },
        });
        return;
      }
      case 'exited': {
        this.#struck ??= event.exit.struck;
        // One that never was ready is reported by its failed start; one that was struck, in any case.
        const running = this.#engines.get(kind);
        const ready = running !== undefined && running !== 'starting';
        if (!ready && event.exit.struck === undefined) return;
        this.#engines.delete(kind);
        if (kind === EngineKind.ENGINE_KIND_STAGE) this.#stage?.close();
        const { exit, error } = event;
        hub.emit({
          $case: 'engineExit',
          value: {
            deployment,
            epoch,
            kind,
            reason: exit.reason === '' ? (error?.message ?? '') : exit.reason,
            exitCode: exit.code ?? -1,
            signal: exit.signal ?? '',
            violations: exit.violations,
            // One that was ready has read prompts: its words stay here.
            stderrTail: ready ? '' : exit.stderr_tail,
            unexpected: !this.#over.signal.aborted,
            struck: struckMessage(exit.struck),
          },
        });
      }
    }
  }
}
