/**
 * What may be said of the seal, from evidence alone (pure). Enforced, watched and proven are three things; what one of
 * them lacks is a reason, and the level is what the worst reason leaves. A monitor that does not see makes `blind`,
 * never less; a wall that is not as it should be makes `degraded`, one that is not there `none`.
 */
import {
  CanaryState,
  ConnectListState,
  EnforcedState,
  SealLevel,
  type ConnectList,
  type SandboxSupport,
  type SealEvidence,
} from '@minikeep/protocol/v1';
import { leastSealed } from './least.ts';

/** The agent looks each second, and its heartbeat comes each second. */
const EVIDENCE_SECONDS_MAX = 4;
/** Tried every hour; the run itself and a busy node have their time. */
export const CANARY_SECONDS_MAX = 75 * 60;

export interface NodeFacts {
  readonly node: string;
  readonly up: boolean;
  /** What its agent found when it was started. */
  readonly sandbox: SandboxSupport | undefined;
  /** As of its last heartbeat. */
  readonly evidence: SealEvidence | undefined;
  /** Since then. */
  readonly heardSeconds: number;
}

export interface Reason {
  /** Empty: the coordinator. */
  readonly node: string;
  readonly level: SealLevel;
  readonly what: string;
}

export interface SealFacts {
  readonly nodes: readonly NodeFacts[];
  /** Of the coordinator's own process. */
  readonly connectList: ConnectList;
  /** False for a throw-away cluster, which tries no canary of its own accord. */
  readonly proofWanted: boolean;
  /** By node: why the event log is not as it remembers it. */
  readonly doubts?: ReadonlyMap<string, string>;
}

export interface Verdict {
  readonly level: SealLevel;
  readonly reasons: readonly Reason[];
}

const { SEAL_LEVEL_NONE, SEAL_LEVEL_BLIND, SEAL_LEVEL_DEGRADED, SEAL_LEVEL_ENGINE } = SealLevel;

export function verdictOf(facts: SealFacts): Verdict {
  const reasons = [
    ...listReasons('', facts.connectList),
    ...[...(facts.doubts ?? [])].map(([node, what]) => ({
      node,
      level: SEAL_LEVEL_DEGRADED,
      what: `the event log is not as it remembers it: ${what}`,
    })),
    ...facts.nodes.flatMap((node) =>
      node.up ? reasonsOf(node, facts.proofWanted) : awayReasons(node),
    ),
  ];
  const level = leastSealed([SEAL_LEVEL_ENGINE, ...reasons.map((reason) => reason.level)]);
  return { level, reasons };
}

/** What was not running when it was last heard, is not running now: nobody else starts it. */
function awayReasons({ node, evidence }: NodeFacts): Reason[] {
  const left = evidence?.engines.length ?? 0;
  if (left === 0) return [];
  const what = `it is away, and had ${left === 1 ? 'an engine' : `${left} engines`} running when it was last heard`;
  return [{ node, level: SEAL_LEVEL_BLIND, what }];
}

/** Why less may be said of one node that is up. */
export function reasonsOf(facts: NodeFacts, proofWanted: boolean): Reason[] {
  const { node, sandbox, evidence } = facts;
  const reason = (level: SealLevel, what: string): Reason => ({ node, level, what });
  if (evidence?.sandboxOff === true)
    return [reason(SEAL_LEVEL_NONE, 'it was started with --unsafe-no-sandbox')];
  if (sandbox !== undefined && !sandbox.ok)
    return [
      reason(
        SEAL_LEVEL_NONE,
        `its system can't enforce a sandbox: ${sandbox.missing[0]?.what ?? sandbox.mechanism}`,
      ),
    ];
  // Greeted, and not heard yet: the first heartbeat comes within a second.
  if (evidence === undefined) return [];
  const reasons: Reason[] = [];
  const age = evidence.ageSeconds + facts.heardSeconds;
  if (age > EVIDENCE_SECONDS_MAX)
    reasons.push(reason(SEAL_LEVEL_BLIND, `it was not looked at for ${Math.round(age)} s`));
  if (evidence.blind !== '') reasons.push(reason(SEAL_LEVEL_BLIND, evidence.blind));
  for (const { enforced, deployment, finding } of evidence.engines) {
    const engine = `an engine of ${deployment}: ${finding}`;
    if (enforced === EnforcedState.ENFORCED_STATE_NO)
      reasons.push(reason(SEAL_LEVEL_DEGRADED, engine));
    else if (enforced !== EnforcedState.ENFORCED_STATE_YES)
      reasons.push(reason(SEAL_LEVEL_BLIND, engine));
  }
  reasons.push(...listReasons(node, evidence.connectList));
  reasons.push(...canaryReasons(node, evidence, proofWanted));
  return reasons;
}

function listReasons(node: string, list: ConnectList | undefined): Reason[] {
  if (list?.state !== ConnectListState.CONNECT_LIST_STATE_MISSING) return [];
  const who = node === '' ? 'the coordinator' : 'its agent';
  return [
    {
      node,
      level: SEAL_LEVEL_DEGRADED,
      what: `${who} may connect to anybody: there is no guard (${list.why})`,
    },
  ];
}

function canaryReasons(node: string, evidence: SealEvidence, proofWanted: boolean): Reason[] {
  const { canary, engines } = evidence;
  const reason = (level: SealLevel, what: string): Reason[] => [{ node, level, what }];
  if (canary === undefined)
    return proofWanted && engines.length > 0
      ? reason(SEAL_LEVEL_DEGRADED, 'engines run, and no canary was tried')
      : [];
  switch (canary.state) {
    case CanaryState.CANARY_STATE_PASSED:
      return proofWanted && canary.ageSeconds > CANARY_SECONDS_MAX
        ? reason(SEAL_LEVEL_DEGRADED, `its last canary is ${minutes(canary.ageSeconds)} old`)
        : [];
    case CanaryState.CANARY_STATE_BLIND:
      return reason(SEAL_LEVEL_BLIND, `its canary was refused, but not seen (${canary.why})`);
    case CanaryState.CANARY_STATE_BROKEN:
      return reason(SEAL_LEVEL_DEGRADED, `its canary did not run to its end: ${canary.why}`);
    default:
      return reason(SEAL_LEVEL_DEGRADED, `its canary found a way out (${canary.why})`);
  }
}

const minutes = (seconds: number): string => `${Math.round(seconds / 60)} minutes`;
