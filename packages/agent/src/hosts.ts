/** The deployments that have a part on this node. */
import type { EngineClient } from '@minikeep/engine';
import { MinikeepError } from '@minikeep/protocol';
import type { HostedPart } from '@minikeep/protocol/v1';
import { HostedDeployment, type HostOptions } from './hosted-deployment.ts';

const DEPLOYMENTS_MAX = 16;

export interface RunningEngine {
  readonly deployment: string;
  readonly engine: Pick<EngineClient, 'pid' | 'blind'>;
}

export class Hosts {
  readonly #make: (deployment: string, epoch: number) => HostedDeployment;
  readonly #release: (deployment: string) => Promise<void>;
  readonly #byName = new Map<string, HostedDeployment>();
  #closed = false;

  constructor(shared: Omit<HostOptions, 'deployment' | 'epoch'>) {
    this.#release = (deployment) => shared.store.release(deployment);
    this.#make = (deployment, epoch) => new HostedDeployment({ ...shared, deployment, epoch });
  }

  /** The deployment's part of that epoch; what an older epoch left is ended first. Throws `deployment.stale_epoch`. */
  async forEpoch(deployment: string, epoch: number): Promise<HostedDeployment> {
    const before = this.#byName.get(deployment);
    if (before?.epoch === epoch) return before;
    if (before !== undefined && before.epoch > epoch)
      throw new MinikeepError(
        'deployment.stale_epoch',
        `epoch ${epoch} of ${deployment} is over: ${before.epoch} has begun`,
        { next: 'Another coordinator or an old request: see `minikeep status`.' },
      );
    if (this.#closed || (before === undefined && this.#byName.size >= DEPLOYMENTS_MAX))
      throw new MinikeepError('node.too_many_deployments', 'this node takes no more deployments', {
        next: 'Take one down with `minikeep down`.',
      });
    const host = this.#make(deployment, epoch);
    this.#byName.set(deployment, host);
    if (before !== undefined) await before.endEngines('a new epoch began');
    return host;
  }

  /** Throws `deployment.unknown`. */
  find(deployment: string): HostedDeployment {
    const host = this.#byName.get(deployment);
    if (host !== undefined) return host;
    throw new MinikeepError('deployment.unknown', `nothing of ${deployment} runs on this node`, {
      next: 'See what is deployed with `minikeep status`.',
    });
  }

  /** What is here of every deployment. */
  inventory(): HostedPart[] {
    return [...this.#byName.values()].map((host) => host.inventory());
  }

  /** Engines that run. */
  engines(): RunningEngine[] {
    return [...this.#byName.entries()].flatMap(([deployment, host]) =>
      host.engines().map((engine) => ({ deployment, engine })),
    );
  }

  /** The ways to neighbours are others, or in another order, than before. */
  reconsiderWays(): void {
    for (const host of this.#byName.values()) host.stage?.reconsiderWays();
  }

  /** Ends a deployment's part, if there is one and its epoch is not a later one (0: any). */
  async end(deployment: string, epoch: number, reason: string): Promise<void> {
    const host = this.#byName.get(deployment);
    if (host !== undefined && epoch !== 0 && host.epoch > epoch) return;
    this.#byName.delete(deployment);
    // A deployment that failed before it loaded has only slices here.
    await (host === undefined ? this.#release(deployment) : host.end(reason));
  }

  /** Ends all, for good. */
  async close(reason: string): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#byName.keys()].map((name) => this.end(name, 0, reason)));
  }
}
