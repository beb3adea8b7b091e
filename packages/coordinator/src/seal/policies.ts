/**
 * What the operator decided about the seal: what becomes of an engine that tries to get out, and whether a cluster that
 * can't see serves. And which deployments are in quarantine because of the first. Kept where the cluster has a home.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { SealLevel, ViolationPolicy, type Struck } from '@minikeep/protocol/v1';

export const VIOLATION_POLICIES = ['report', 'quarantine', 'kill-cluster'] as const;
export const BLIND_POLICIES = ['serve', 'refuse'] as const;
type Violations = (typeof VIOLATION_POLICIES)[number];
type WhenBlind = (typeof BLIND_POLICIES)[number];

const MESSAGES: Readonly<Record<Violations, ViolationPolicy>> = {
  report: ViolationPolicy.VIOLATION_POLICY_REPORT,
  quarantine: ViolationPolicy.VIOLATION_POLICY_QUARANTINE,
  'kill-cluster': ViolationPolicy.VIOLATION_POLICY_KILL_CLUSTER,
};

export interface Quarantined {
  readonly deployment: string;
  readonly atMs: number;
  readonly node: string;
  readonly kind: string;
  readonly operation: string;
}

/** A throw-away cluster has none. Each call is kept when it returns; throws `state.*`. */
export interface PolicyStore {
  policies(): ReadonlyMap<string, string>;
  quarantined(): readonly Quarantined[];
  setPolicy(name: string, value: string): void;
  quarantine(row: Quarantined, seen: Readonly<Record<string, unknown>>): void;
  lift(deployment: string): void;
}

export class Policies {
  readonly #store: PolicyStore | undefined;
  readonly #quarantined: Map<string, Quarantined>;
  #violations: Violations;
  #whenBlind: WhenBlind;

  constructor(store?: PolicyStore) {
    this.#store = store;
    const kept = store?.policies();
    this.#violations = oneOf(VIOLATION_POLICIES, kept?.get('violations')) ?? 'quarantine';
    this.#whenBlind =
      oneOf(BLIND_POLICIES, kept?.get('when_blind')) ??
      // Who asks a throw-away cluster reads what it says of itself.
      (store === undefined ? 'serve' : 'refuse');
    this.#quarantined = new Map(store?.quarantined().map((row) => [row.deployment, row]));
  }

  get violations(): Violations {
    return this.#violations;
  }

  /** As agents are told. */
  get violationPolicy(): ViolationPolicy {
    return MESSAGES[this.#violations];
  }

  get whenBlind(): WhenBlind {
    return this.#whenBlind;
  }

  get quarantined(): readonly Quarantined[] {
    return [...this.#quarantined.values()];
  }

  /** Empty: as before. Throws `policy.unknown`, `state.*`. */
  set(violations: string, whenBlind: string): void {
    const wanted = {
      violations: violations === '' ? this.#violations : oneOf(VIOLATION_POLICIES, violations),
      whenBlind: whenBlind === '' ? this.#whenBlind : oneOf(BLIND_POLICIES, whenBlind),
    };
    if (wanted.violations === undefined) throw unknown(violations, VIOLATION_POLICIES);
    if (wanted.whenBlind === undefined) throw unknown(whenBlind, BLIND_POLICIES);
    this.#store?.setPolicy('violations', wanted.violations);
    this.#violations = wanted.violations;
    this.#store?.setPolicy('when_blind', wanted.whenBlind);
    this.#whenBlind = wanted.whenBlind;
  }

  /** An engine of it was struck. The mark holds at once, also when it can't be kept. Throws `state.*`. */
  quarantine(deployment: string, node: string, struck: Struck, nowMs: number): void {
    if (this.#quarantined.has(deployment)) return;
    const { kind, operation, mapped, open } = struck;
    const row = { deployment, atMs: nowMs, node, kind, operation };
    this.#quarantined.set(deployment, row);
    this.#store?.quarantine(row, { mapped: bounded(mapped), open: bounded(open) });
  }

  /** Throws `quarantine.unknown`, `state.*`. */
  lift(deployment: string): void {
    if (!this.#quarantined.has(deployment))
      throw new MinikeepError(
        'quarantine.unknown',
        `${deployment.slice(0, 80)} is not in quarantine`,
        { next: 'See `minikeep seal status` for what is.', exitCode: EXIT.usage },
      );
    this.#store?.lift(deployment);
    this.#quarantined.delete(deployment);
  }

  /** Throws `seal.blind`. */
  assertServing(level: SealLevel): void {
    if (level === SealLevel.SEAL_LEVEL_BLIND && this.#whenBlind === 'refuse') throw isBlind();
  }

  /** Throws `deployment.quarantined`. */
  assertFree(deployment: string): void {
    const row = this.#quarantined.get(deployment);
    if (row !== undefined) throw inQuarantine(row);
  }
}

export function inQuarantine({ deployment, node, kind, operation }: Quarantined): MinikeepError {
  return new MinikeepError(
    'deployment.quarantined',
    `${deployment} is in quarantine: an engine of it tried to get out on node ${node} and was stopped (${kind}: ${operation})`,
    {
      next: `See what it tried: minikeep violations. To run it again all the same: minikeep seal lift ${deployment}, then minikeep up ${deployment}`,
      exitCode: EXIT.denied,
      details: { node, deployment },
    },
  );
}

const isBlind = (): MinikeepError =>
  new MinikeepError('seal.blind', 'attempts to get out might go unseen now: nothing is served', {
    next: 'See why: minikeep seal status. To serve all the same, said to be blind everywhere: minikeep seal policy --when-blind serve',
  });

/** An event of the log has room for so much. */
const LINES_KEPT_MAX = 64;
const LINE_LENGTH_MAX = 200;
const bounded = (lines: readonly string[]): string[] =>
  lines.slice(0, LINES_KEPT_MAX).map((line) => line.slice(0, LINE_LENGTH_MAX));

const oneOf = <T extends string>(all: readonly T[], text: string | undefined): T | undefined =>
  all.find((one) => one === text);

const unknown = (text: string, all: readonly string[]): MinikeepError =>
  new MinikeepError('policy.unknown', `"${text.slice(0, 80)}" is no policy`, {
    next: `Choose one of: ${all.join(', ')}.`,
    exitCode: EXIT.usage,
  });
