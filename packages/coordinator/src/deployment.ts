/**
 * One deployment in one epoch: from the plan to engines that are connected, and to the end of it. Any fault of a node,
 * an engine or a stream ends every answer with one error that names node and stage.
 */
import { CALL_TIMEOUT_MS, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { FrameLink, deadline, type CredentialPems } from '@minikeep/protocol/rpc';
import type { SealLevel } from '@minikeep/protocol/v1';
import {
  DeployPhase,
  DeploymentState,
  EngineKind,
  ExactMode,
  type DeployProgress,
  type EngineReady,
  type StageStatus,
} from '@minikeep/protocol/v1';
import type { DeploymentPlan, DeploymentShape } from './deployment-plan.ts';
import { aborted } from './aborted.ts';
import {
  checkEqual,
  connectAll,
  loadAll,
  loadMissing,
  sendAll,
  textEngineToLoad,
  wholePlan,
  type EnginesToEnd,
  type PlacedDigests,
  type RunningEngines,
} from './deployment-steps.ts';
import { diagnose } from './diagnose.ts';
import { loadEngines } from './load-stages.ts';
import {
  engineDied,
  howItEnded,
  nodeLost,
  stepFailed,
  streamLost,
  takenDown,
  textEngineDied,
  type Place,
} from './node-faults.ts';
import type { NodeEvent, NodeLink, OwnPlace } from './node-link.ts';
import type { PieceOrigin } from './piece-origin.ts';
import { Pipeline } from './pipeline.ts';
import type { ResultStreams } from './result-streams.ts';
import { deploymentLevel, type SealOf } from './seal/deployment-level.ts';
import { TextEngine } from './text-engine.ts';

const QUEUE_MAX = 256;
/** A broken stream is often the echo of a dead engine or node; the better reason may come a moment later. */
const BETTER_REASON_MS = 750;
const UNLOAD_TIMEOUT_MS = 8_000;
const CONNECT_STAGE_TIMEOUT_MS = 15_000;
/** A stage that was connected before lets its engine finish the steps that it holds. */
const ATTACH_STAGE_TIMEOUT_MS = 150_000;

export interface DeploymentOptions {
  readonly name: string;
  readonly epoch: number;
  readonly shape: DeploymentShape;
  readonly origin: PieceOrigin;
  /** Every node of the cluster. */
  readonly nodes: readonly NodeLink[];
  readonly credentials: CredentialPems;
  /** This coordinator's certificate name and where it is reached, for the last stage. */
  readonly own: OwnPlace;
  readonly results: ResultStreams;
  readonly sealOf: SealOf;
  onProgress(progress: DeployProgress): void;
  /** The slices are on their nodes, nothing is loaded yet. */
  onPlaced?(digests: PlacedDigests): void;
  /** It broke: what those who wait are told, and which engines end. Without this all do. */
  onFailed?(error: MinikeepError): { readonly told: MinikeepError; readonly end: EnginesToEnd };
}

export class Deployment {
  readonly name: string;
  readonly epoch: number;
  readonly shape: DeploymentShape;
  readonly #options: DeploymentOptions;
  /** Aborted, with the reason, when the deployment is over. */
  readonly #over = new AbortController();
  #state: DeploymentState = DeploymentState.DEPLOYMENT_STATE_STARTING;
  #engines: readonly EngineReady[] = [];
  #session = 0;
  #pipeline: Pipeline | undefined;
  #textEngine: TextEngine | undefined;
  #sender: FrameLink | undefined;
  #violations = 0;
  /** A node's record of refused attempts has a hole. */
  #blind = false;
  #diagnosing = false;
  /** A stream broke, and a better reason may still come. */
  #brokeTimer: NodeJS.Timeout | undefined;
  #unloaded: Promise<void> | undefined;

  constructor(options: DeploymentOptions) {
    this.name = options.name;
    this.epoch = options.epoch;
    this.shape = options.shape;
    this.#options = options;
  }

  get state() {
    return this.#state;
  }

  get over(): boolean {
    return this.#over.signal.aborted;
  }

  /** All its engines were loaded. */
  get connecting(): boolean {
    return this.#session > 0;
  }

  /** Why it is over. */
  get error(): MinikeepError | undefined {
    const reason: unknown = this.#over.signal.reason;
    return reason instanceof MinikeepError ? reason : undefined;
  }

  get pipeline(): Pipeline | undefined {
    return this.#pipeline;
  }

  get textEngine(): TextEngine | undefined {
    return this.#textEngine;
  }

  get violations(): number {
    return this.#violations;
  }

  /** Token ids that the model knows; 0 before it is loaded. */
  get vocabularySize(): number {
    return this.#engines.at(-1)?.nVocab ?? 0;
  }

  get sealed(): SealLevel {
    return deploymentLevel(this.#blind, this.#engines, this.shape.stages, this.#options.sealOf);
  }

  get stageStatus(): StageStatus[] {
    return this.shape.stages.map(({ node, layers, sliceBytes }, i): StageStatus => {
      const engine = this.#engines[i];
      return {
        node: node.name,
        layers: { start: layers[0], end: layers[1] },
        sliceBytes,
        memory: engine?.memory,
        enginePid: engine?.enginePid ?? 0,
        sandboxed: engine?.sandboxed ?? false,
        loadSeconds: engine?.loadSeconds ?? 0,
      };
    });
  }

  /** Sends, loads, connects. A failure or an aborted signal undoes all of it. */
  async start(plan: DeploymentPlan, asked: AbortSignal): Promise<void> {
    await this.#bringUp(asked, async (signal) => {
      const parts = wholePlan(plan);
      const steps = { deployment: this.name, epoch: this.epoch, plan, parts, signal };
      const { sending, loading } = this.#bringing;
      const digests = await sendAll(steps, this.#options, sending);
      this.#options.onPlaced?.(digests);
      const engines = await loadAll(steps, digests, loading);
      checkEqual(this.shape, engines);
      this.#engines = engines;
      if (digests.text !== undefined) this.#useTextEngine(digests.text, plan.text?.bytes ?? 0);
      await this.#connect(1, CONNECT_STAGE_TIMEOUT_MS, signal);
    });
  }

  /** Loads what is gone, and connects it with the engines that run, with nothing left in them of what they did before. */
  async attach(running: RunningEngines, asked: AbortSignal): Promise<void> {
    await this.#bringUp(asked, async (signal) => {
      const { plan, text, stages } = running;
      const steps = { deployment: this.name, epoch: this.epoch, signal };
      const engines =
        plan === undefined
          ? stages.flatMap((engine) => engine ?? [])
          : await loadMissing(running, { ...steps, plan }, this.#options, this.#bringing);
      checkEqual(this.shape, engines);
      this.#engines = engines;
      if (text !== undefined) {
        const load = this.#useTextEngine(text.sha256, 0);
        const gone = !text.loaded && !running.missing.includes(0);
        if (gone) await Promise.race([load(), aborted(signal)]);
      }
      await this.#connect(running.session + 1, ATTACH_STAGE_TIMEOUT_MS, signal);
      await Promise.race([this.#pipeline?.sweep(), aborted(signal)]);
    });
  }

  /** Ends every answer and the engines. */
  async end(why?: MinikeepError): Promise<void> {
    this.detach(why ?? takenDown(this.name));
    await this.#unloaded;
    await this.#unload('all');
  }

  /** Ends every answer; the engines go on, for whoever attaches them next. */
  detach(why: MinikeepError): void {
    if (this.#state !== DeploymentState.DEPLOYMENT_STATE_FAILED)
      this.#state = DeploymentState.DEPLOYMENT_STATE_STOPPING;
    this.#stop(why);
  }

  /** Resolves when a failed deployment's engines are ended, if they are to be. */
  async settled(): Promise<void> {
    await this.#unloaded;
  }

  /** Something broke: the first reason counts. Engines are ended in the background. */
  fail(error: MinikeepError): void {
    if (this.#over.signal.aborted) return;
    this.#state = DeploymentState.DEPLOYMENT_STATE_FAILED;
    const { told, end } = this.#options.onFailed?.(error) ?? { told: error, end: 'all' };
    this.#stop(error, told);
    void this.#unload(end);
  }

  /** A node is gone. */
  nodeDown(node: NodeLink, error: MinikeepError): void {
    const place = this.#placeOf(node);
    if (place !== undefined) this.fail(nodeLost(place, error));
  }

  /** Something happened on a node; events of other deployments and epochs are not ours. */
  nodeEvent(node: NodeLink, event: NodeEvent): void {
    const place = this.#placeOf(node);
    if (place === undefined || event.$case === 'heartbeat') return;
    if (event.$case === 'eventsDropped') {
      // Whose attempts they were is lost with them: every deployment with an engine there.
      this.#blind ||= event.value.violations > 0;
      return;
    }
    if (event.value.deployment !== this.name) return;
    if (event.$case === 'engineLog' || event.value.epoch !== this.epoch) return;
    if (event.$case === 'violation') this.#violations += event.value.count;
    else if (event.$case === 'stepFault' || event.$case === 'pipelineFault') {
      // What happened to the streams of another coordinator, or of one that we gave up, is over.
      if (event.value.session !== this.#session) return;
      if (event.$case === 'pipelineFault') this.#streamBroke(streamLost(place, event.value));
      else this.#pipeline?.stepFailed(event.value.step, stepFailed(place, event.value));
    } else if (!event.value.unexpected) return;
    else if (event.value.kind === EngineKind.ENGINE_KIND_TEXT && event.value.struck === undefined)
      this.#textEngine?.died(textEngineDied(node.name, howItEnded(event.value)));
    else this.fail(engineDied(place, event.value));
  }

  async #bringUp(asked: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const signal = AbortSignal.any([asked, this.#over.signal]);
    try {
      await work(signal);
      // A fault may have come with the last step.
      signal.throwIfAborted();
      this.#state = DeploymentState.DEPLOYMENT_STATE_READY;
    } catch (thrown) {
      // What was aborted because of a fault is reported as that fault.
      const error = this.error ?? toMinikeepError(thrown);
      this.fail(error);
      await this.#unloaded;
      throw error;
    }
  }

  /** Returns what loads it; that is done again when it dies. */
  #useTextEngine(sha256: string, bytes: number): () => Promise<unknown> {
    const { name: deployment, epoch, shape } = this;
    const { signal } = this.#over;
    const first = shape.stages[0]?.node;
    const load = (): Promise<unknown> =>
      loadEngines(textEngineToLoad({ deployment, epoch }, first, sha256, bytes), () => {}, signal);
    if (first !== undefined) this.#textEngine = new TextEngine(first, deployment, load);
    return load;
  }

  async #connect(session: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const { shape, name: deployment, epoch } = this;
    const { own, credentials, results } = this.#options;
    this.#session = session;
    const [first, last] = [shape.stages[0]?.node, shape.stages.at(-1)?.node];
    if (first === undefined || last === undefined) throw new Error('a deployment without stages');
    const pipeline = this.#makePipeline();
    this.#pipeline = pipeline;
    results.expect({
      deployment,
      epoch,
      session,
      from: last.identity,
      onFrame: (payload) => pipeline.result(payload),
      onEnd: (error) => this.#streamBroke(error),
    });
    const progress = (fraction: number): void =>
      this.#progress(DeployPhase.DEPLOY_PHASE_CONNECTING, fraction);
    await connectAll({ deployment, epoch, session, shape, timeoutMs, signal }, own, progress);
    const sender = new FrameLink({
      ways: () => first.ways,
      credentials,
      neighbour: first.identity,
      deployment,
      epoch,
      session,
      onEnd: (error) => void (error !== undefined && this.#streamBroke(error)),
    });
    this.#sender = sender;
    await Promise.race([sender.accepted, aborted(deadline(CALL_TIMEOUT_MS, signal))]);
    progress(1);
  }

  #makePipeline(): Pipeline {
    const { nCtx, nBatch, nSeqMax, mode } = this.shape.context;
    return new Pipeline({
      epoch: this.epoch,
      scheduler: {
        stages: this.shape.stages.length,
        nBatch,
        nSeqMax,
        contextTokens: nCtx,
        exact: mode !== ExactMode.EXACT_MODE_FAST,
        queueMax: QUEUE_MAX,
      },
      send: (frame) => void this.#sender?.send(frame),
      onStalled: (_, silentMs) => void this.#diagnose(silentMs),
    });
  }

  async #diagnose(silentMs: number): Promise<void> {
    if (this.#diagnosing) return;
    this.#diagnosing = true;
    try {
      const error = await diagnose({
        deployment: this.name,
        stages: this.shape.stages,
        silentMs,
        gpu: this.shape.context.gpu,
        linkBrokenSeconds: () => this.#sender?.brokenSeconds ?? 0,
        signal: this.#over.signal,
      });
      if (error === undefined) this.#pipeline?.stillWorking();
      else this.fail(error);
    } catch (thrown) {
      // Nobody waits for a diagnosis: what goes wrong in it must still end the answers.
      this.fail(toMinikeepError(thrown));
    } finally {
      this.#diagnosing = false;
    }
  }

  #placeOf(node: NodeLink): Place | undefined {
    const index = this.shape.stages.findIndex((stage) => stage.node === node);
    return index < 0 ? undefined : { stage: this.shape.stages[index], index };
  }

  get #bringing() {
    const { DEPLOY_PHASE_SENDING: sending, DEPLOY_PHASE_LOADING: loading } = DeployPhase;
    return {
      sending: (done: number, total: number) => this.#progress(sending, done / total, done, total),
      loading: (fraction: number) => this.#progress(loading, fraction),
    };
  }

  #progress(phase: DeployPhase, fraction: number, doneBytes = 0, totalBytes = 0): void {
    this.#options.onProgress({ phase, fraction, doneBytes, totalBytes, predictedSeconds: 0 });
  }

  #streamBroke(error: MinikeepError): void {
    if (this.over) return;
    this.#brokeTimer ??= setTimeout(() => this.fail(error), BETTER_REASON_MS);
  }

  #stop(error: MinikeepError, told = error): void {
    if (this.#over.signal.aborted) return;
    clearTimeout(this.#brokeTimer);
    this.#over.abort(error);
    this.#options.results.forget(this.name, this.epoch);
    this.#pipeline?.fail(told);
    this.#sender?.close();
  }

  /** A node that is gone has ended its engines by itself, or does when it learns of a new epoch. */
  #unload(which: EnginesToEnd): Promise<void> {
    this.#unloaded = Promise.allSettled(
      this.shape.stages
        .filter(({ node }) => node.up && (which === 'all' || which.includes(node.name)))
        .map(({ node }) =>
          node.agent.unload(
            { deployment: this.name, epoch: this.epoch },
            { signal: deadline(UNLOAD_TIMEOUT_MS) },
          ),
        ),
    ).then(() => {});
    return this.#unloaded;
  }
}
