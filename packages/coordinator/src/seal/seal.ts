/**
 * The cluster's seal as it is: looked at each second, its changes told and kept. Canaries that ended are kept, too, and
 * one is tried where the last one is an hour old.
 */
import { canaryName, sealName } from '@minikeep/protocol/rpc';
import { SealLevel, type ConnectList, type SealStatusResponse } from '@minikeep/protocol/v1';
import type { NodeLink } from '../node-link.ts';
import { verdictOf, type NodeFacts, type Verdict } from './level.ts';

const LOOK_MS = 1_000;
/** Two canaries of a node begin further apart than this. */
const SAME_CANARY_SECONDS = 2;
const REASONS_KEPT_MAX = 8;
const WHAT_LENGTH_MAX = 300;

export interface SealOptions {
  readonly nodes: () => readonly NodeLink[];
  readonly connectList: ConnectList;
  /** A cluster that stays tries canaries of its own accord. */
  readonly proofWanted: boolean;
  /** By node: why the event log is not as it remembers it. */
  readonly doubts?: () => ReadonlyMap<string, string>;
  /** Into the event log. */
  readonly keep: (kind: string, data: Readonly<Record<string, unknown>>) => void;
}

export class Seal {
  readonly #options: SealOptions;
  #timer: NodeJS.Timeout | undefined;
  #told: SealLevel = SealLevel.SEAL_LEVEL_UNSPECIFIED;
  /** When the last canary of each node began, in monotonic seconds. */
  readonly #canaries = new Map<string, number>();

  constructor(options: SealOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Of these nodes; of all, unless named. */
  verdict(names?: ReadonlySet<string>): Verdict {
    const { nodes, connectList, proofWanted } = this.#options;
    const asked = nodes().filter(({ name }) => names === undefined || names.has(name));
    const doubts = this.#options.doubts?.() ?? new Map<string, string>();
    return verdictOf({ nodes: asked.map(factsOf), connectList, proofWanted, doubts });
  }

  /** `sealed`: with what deployments say of themselves. */
  status(
    sealed: SealLevel,
    violations: number,
  ): Omit<SealStatusResponse, 'policies' | 'quarantined'> {
    const { nodes, connectList } = this.#options;
    const { reasons } = this.verdict();
    return {
      sealed,
      wanted: SealLevel.SEAL_LEVEL_ENGINE,
      reasons: [...reasons],
      connectList,
      violations,
      nodes: nodes().map((link) => {
        const facts = factsOf(link);
        return {
          node: link.name,
          up: link.up,
          heardSeconds: link.heartbeatAgeSeconds,
          sandbox: facts.sandbox,
          evidence: link.up ? facts.evidence : undefined,
          reasons: reasons.filter(({ node }) => node === link.name),
        };
      }),
    };
  }

  #look(): void {
    this.#keepCanaries();
    const { level, reasons } = this.verdict();
    if (level === this.#told) return;
    const before = this.#told;
    this.#told = level;
    this.#options.keep('seal.changed', {
      from: before === SealLevel.SEAL_LEVEL_UNSPECIFIED ? 'unknown' : sealName(before),
      to: sealName(level),
      why: reasons
        .slice(0, REASONS_KEPT_MAX)
        .map(({ node, what }) =>
          `${node === '' ? 'coordinator' : node}: ${what}`.slice(0, WHAT_LENGTH_MAX),
        ),
    });
  }

  #keepCanaries(): void {
    for (const { name, heartbeat, heartbeatAgeSeconds, up } of this.#options.nodes()) {
      const canary = heartbeat?.seal?.canary;
      if (!up || canary === undefined) continue;
      const begun = performance.now() / 1000 - canary.ageSeconds - heartbeatAgeSeconds;
      const known = this.#canaries.get(name) ?? -Infinity;
      if (begun - known < SAME_CANARY_SECONDS) continue;
      this.#canaries.set(name, begun);
      this.#options.keep('canary.ended', {
        node: name,
        state: canaryName(canary.state),
        attempts: canary.attempts,
        ...(canary.why === '' ? {} : { why: canary.why.slice(0, WHAT_LENGTH_MAX) }),
      });
    }
  }
}

const factsOf = (link: NodeLink): NodeFacts => ({
  node: link.name,
  up: link.up,
  sandbox: link.hello?.sandbox,
  evidence: link.heartbeat?.seal,
  heardSeconds: Math.max(0, link.heartbeatAgeSeconds),
});
