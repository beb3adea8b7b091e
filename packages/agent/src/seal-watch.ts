/**
 * What keeps engines in on this node, looked at again and again and told with each heartbeat: what the system says of
 * each engine, whether every monitor is heard, what the last canary found.
 */
import type { Enforced, SandboxPlatform } from '@minikeep/containment';
import { connectListMessage, type Guarding } from '@minikeep/containment/guarded';
import { EnforcedState, type EngineEvidence, type SealEvidence } from '@minikeep/protocol/v1';
import type { NodeCanary } from './canary.ts';
import type { RunningEngine } from './hosts.ts';

/** A failure is told within five seconds, the heartbeat's own included. */
const LOOK_MS = 1_000;
const BLIND_LENGTH_MAX = 500;

const STATES: Readonly<Record<Enforced['state'], EnforcedState>> = {
  yes: EnforcedState.ENFORCED_STATE_YES,
  no: EnforcedState.ENFORCED_STATE_NO,
  unknown: EnforcedState.ENFORCED_STATE_UNKNOWN,
};

export interface SealWatchOptions {
  readonly engines: () => readonly RunningEngine[];
  readonly platform: SandboxPlatform;
  readonly guarding: Guarding;
  readonly canary: Pick<NodeCanary, 'last'>;
  readonly sandboxOff: boolean;
}

export class SealWatch {
  readonly #options: SealWatchOptions;
  readonly #timer: NodeJS.Timeout;
  #engines: EngineEvidence[] = [];
  #blind = '';
  #lookedMs = performance.now();
  #looking = false;

  constructor(options: SealWatchOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  evidence(): SealEvidence {
    const { guarding, canary, sandboxOff } = this.#options;
    return {
      engines: this.#engines,
      connectList: connectListMessage(guarding),
      canary: canary.last(),
      blind: this.#blind,
      ageSeconds: (performance.now() - this.#lookedMs) / 1000,
      sandboxOff,
    };
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      const running = this.#options.engines();
      const engines = await Promise.all(running.map((each) => this.#evidenceOf(each)));
      const { guarding } = this.#options;
      const blind = [
        ...running.map(({ engine }) => engine.blind()),
        ...(guarding.state === 'on' ? [guarding.guard.blind()] : []),
      ].filter((why) => why !== '');
      // One that ended meanwhile is no engine any more.
      const left = new Set(this.#options.engines().map(({ engine }) => engine.pid));
      this.#engines = engines.filter(({ pid }) => left.has(pid));
      this.#blind = [...new Set(blind)].join('; ').slice(0, BLIND_LENGTH_MAX);
      this.#lookedMs = performance.now();
    } finally {
      this.#looking = false;
    }
  }

  async #evidenceOf({ deployment, engine }: RunningEngine): Promise<EngineEvidence> {
    const { platform, sandboxOff } = this.#options;
    const { pid } = engine;
    if (sandboxOff) {
      const finding = 'it was started without a sandbox';
      return { deployment, pid, enforced: EnforcedState.ENFORCED_STATE_NO, finding };
    }
    const found = await platform.enforced?.(pid).catch(() => undefined);
    const { state, finding } = found ?? { state: 'unknown', finding: 'it could not be asked' };
    return { deployment, pid, enforced: STATES[state], finding };
  }
}
