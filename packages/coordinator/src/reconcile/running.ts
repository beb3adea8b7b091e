/** The epochs that a coordinator has under way: begun, ended, and what became of them told. */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { comesBack } from './faults.ts';
import type { DeployProgress } from '@minikeep/protocol/v1';
import type { DeploymentPlan, DeploymentShape } from '../deployment-plan.ts';
import type { EnginesToEnd, PlacedDigests } from '../deployment-steps.ts';
import type { Deployment, DeploymentOptions } from '../deployment.ts';
import type { Fault, FoundParts, Placement, WantedDeployment } from './types.ts';

/** Faults of the way to an engine, not of the engine. */
const OF_THE_WAY: ReadonlySet<string> = new Set([
  'node.lost',
  'node.unreachable',
  'clock.skew',
  'pipeline.stream_lost',
]);
/** Faults of one stage's engine: the others can't know of it. */
const OF_ONE_STAGE: ReadonlySet<string> = new Set(['engine.died', 'stage.stalled']);
/** What runs does not fit what is loaded now, however often that is tried. */
const OF_ALL: ReadonlySet<string> = new Set(['deploy.slices_changed', 'version.engine_mismatch']);

type Made = Pick<DeploymentOptions, 'name' | 'epoch' | 'shape' | 'onProgress'> &
  Required<Pick<DeploymentOptions, 'onPlaced' | 'onFailed'>>;

export interface RunningOptions {
  /** Makes and registers a deployment. */
  make(options: Made): Deployment;
  /** It is over. */
  forget(deployment: Deployment): void;
  /** What has to be sent for a placement. */
  plan(placement: Placement, signal: AbortSignal): Promise<DeploymentPlan>;
  shape(placement: Placement): DeploymentShape;
  onProgress(name: string, progress: DeployProgress): void;
  onPlaced(row: WantedDeployment): void;
  onReady(name: string, epoch: number): void;
  onFailed(name: string, epoch: number, error: MinikeepError, fault: Fault): void;
}

interface Epoch {
  readonly epoch: number;
  /** Engines of it ran before. */
  readonly attached: boolean;
  readonly abort: AbortController;
  deployment: Deployment | undefined;
  /** Settled when it is up, or is not to be. */
  work: Promise<void>;
  /** Leases of requests that it serves. */
  requests: number;
  onQuiet: () => void;
}

/** A request's hold on a deployment: released when it has ended. */
export interface Lease {
  readonly deployment: Deployment;
  readonly release: () => void;
}

export class Running {
  readonly #options: RunningOptions;
  readonly #epochs = new Map<string, Epoch>();

  constructor(options: RunningOptions) {
    this.#options = options;
  }

  deployment(name: string): Deployment | undefined {
    return this.#epochs.get(name)?.deployment;
  }

  /** `before`: engines of an older epoch that are just being ended. */
  start(row: WantedDeployment, before: Promise<unknown>): void {
    this.#begin(row, false, async (epoch, { signal }) => {
      await before;
      const plan = await this.#options.plan(row.placement, signal);
      signal.throwIfAborted();
      epoch.deployment = this.#make(row, plan, epoch);
      await epoch.deployment.start(plan, signal);
    });
  }

  attach(row: WantedDeployment, { parts, missing }: FoundParts): void {
    this.#begin(row, true, async (epoch, { signal }) => {
      const { placement } = row;
      const plan = missing.length === 0 ? undefined : await this.#options.plan(placement, signal);
      signal.throwIfAborted();
      epoch.deployment = this.#make(row, plan ?? this.#options.shape(placement), epoch);
      const stages = parts.map((part) => part?.stage?.ready);
      const session = Math.max(0, ...parts.map((part) => part?.stage?.session ?? 0));
      const loaded = parts[0]?.text?.load?.fileSha256 === placement.textSha256;
      const text = placement.text ? { sha256: placement.textSha256, loaded } : undefined;
      const digests = digestsOf(placement);
      await epoch.deployment.attach({ stages, missing, session, text, digests, plan }, signal);
    });
  }

  /** Ends its engines, on the nodes that are there. */
  async end(name: string, epoch: number, why: MinikeepError): Promise<void> {
    const running = this.#epochs.get(name);
    if (running === undefined || running.epoch !== epoch) return;
    running.abort.abort(why);
    await running.work;
    await running.deployment?.end(why);
    this.#drop(name, running);
  }

  /** Ends the coordinator's side only: engines go on, for the next one. */
  async detachAll(why: MinikeepError): Promise<void> {
    await Promise.all(
      [...this.#epochs.entries()].map(async ([name, running]) => {
        running.abort.abort(why);
        await running.work;
        running.deployment?.detach(why);
        this.#drop(name, running);
      }),
    );
  }

  lease(name: string): Lease | undefined {
    const running = this.#epochs.get(name);
    if (running?.deployment === undefined) return undefined;
    const { deployment } = running;
    running.requests++;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      running.requests--;
      if (running.requests === 0) running.onQuiet();
    };
    return { deployment, release };
  }

  /** Calls back when no request is under way, once. */
  whenQuiet(name: string, epoch: number, then: () => void): void {
    const running = this.#epochs.get(name);
    if (running?.epoch === epoch && running.requests > 0) running.onQuiet = then;
    else then();
  }

  #begin(
    row: WantedDeployment,
    attached: boolean,
    bring: (epoch: Epoch, abort: AbortController) => Promise<void>,
  ): void {
    const { name, epoch } = row;
    const abort = new AbortController();
    const running: Epoch = {
      epoch,
      attached,
      abort,
      deployment: undefined,
      work: Promise.resolve(),
      requests: 0,
      onQuiet: () => {},
    };
    this.#epochs.set(name, running);
    running.work = bring(running, abort).then(
      () => {
        if (running.deployment?.over === false) this.#options.onReady(name, epoch);
        else void this.#failed(name, running, running.deployment?.error);
      },
      (thrown: unknown) => {
        // One that is being ended has nothing else to say.
        if (!abort.signal.aborted) void this.#failed(name, running, toMinikeepError(thrown));
      },
    );
  }

  #make(row: WantedDeployment, shape: DeploymentShape, running: Epoch): Deployment {
    const { name, epoch } = row;
    return this.#options.make({
      name,
      epoch,
      shape,
      onProgress: (progress) => this.#options.onProgress(name, progress),
      onPlaced: (digests) =>
        this.#options.onPlaced({ ...row, placement: withDigests(row.placement, digests) }),
      onFailed: (error) => {
        void this.#failedLater(name, running, error);
        const end = enginesToEnd(faultOf(error, running), error);
        return { told: comesBack(name, error), end };
      },
    });
  }

  /** While it is brought up, that says so itself. */
  async #failedLater(name: string, running: Epoch, error: MinikeepError): Promise<void> {
    await running.work;
    await this.#failed(name, running, error);
  }

  /** Told when its engines are ended, if they are to be; once. */
  async #failed(name: string, running: Epoch, error: MinikeepError | undefined): Promise<void> {
    if (this.#epochs.get(name) !== running || running.abort.signal.aborted) return;
    await running.deployment?.settled();
    if (this.#epochs.get(name) !== running || running.abort.signal.aborted) return;
    this.#drop(name, running);
    const why = error ?? ended(name);
    this.#options.onFailed(name, running.epoch, why, faultOf(why, running));
  }

  #drop(name: string, running: Epoch): void {
    if (this.#epochs.get(name) === running) this.#epochs.delete(name);
    if (running.deployment !== undefined) this.#options.forget(running.deployment);
  }
}

const ended = (name: string): MinikeepError =>
  new MinikeepError('deployment.ended', `${name} ended`, { next: 'See `minikeep status`.' });

/** While engines that ran are waiting for one that is being loaded, nothing that goes wrong with it is theirs. */
function faultOf({ code }: MinikeepError, { attached, deployment }: Epoch): Fault {
  if (OF_THE_WAY.has(code)) return 'way';
  if (OF_ALL.has(code)) return 'all';
  if (deployment?.connecting !== true) return attached ? 'stage' : 'all';
  return OF_ONE_STAGE.has(code) ? 'stage' : 'all';
}

/** An engine that died is gone; one that hangs has to be ended. */
function enginesToEnd(fault: Fault, { code, details }: MinikeepError): EnginesToEnd {
  if (fault === 'all') return 'all';
  return code === 'stage.stalled' ? [String(details['node'])] : [];
}

const digestsOf = ({ stages, textSha256 }: Placement): PlacedDigests => ({
  stages: stages.map(({ sliceSha256: slice, embeddingSha256: embedding }) => ({
    slice,
    embedding,
  })),
  text: textSha256,
});

function withDigests(placement: Placement, digests: PlacedDigests): Placement {
  const stages = placement.stages.map((stage, i) => ({
    ...stage,
    sliceSha256: digests.stages[i]?.slice ?? '',
    embeddingSha256: digests.stages[i]?.embedding ?? '',
  }));
  return { ...placement, stages, textSha256: digests.text ?? '' };
}
