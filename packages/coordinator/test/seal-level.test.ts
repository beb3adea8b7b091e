// What may be said of the seal: each lack leaves the level that it should, and no more is ever said than the worst of
// them allows.
import {
  CanaryState,
  ConnectListState,
  EnforcedState,
  SealLevel,
  type SealEvidence,
} from '@minikeep/protocol/v1';
import { sealName } from '@minikeep/protocol/rpc';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextTurn, type Turn } from '../src/seal/hourly.ts';
import { verdictOf, type NodeFacts, type SealFacts } from '../src/seal/level.ts';

const ENFORCED = { state: ConnectListState.CONNECT_LIST_STATE_ENFORCED, why: '' };
const MISSING = { state: ConnectListState.CONNECT_LIST_STATE_MISSING, why: 'an old kernel' };
const engine = (enforced: EnforcedState) => ({
  deployment: 'r1',
  pid: 7,
  enforced,
  finding: 'Seccomp 2',
});
const canary = (state: CanaryState, ageSeconds = 60) => ({
  state,
  ageSeconds,
  attempts: 188,
  why: '',
});
const well: SealEvidence = {
  engines: [engine(EnforcedState.ENFORCED_STATE_YES)],
  connectList: ENFORCED,
  canary: canary(CanaryState.CANARY_STATE_PASSED),
  blind: '',
  ageSeconds: 1,
  sandboxOff: false,
};
const sandbox = { ok: true, platform: 'linux x64', mechanism: 'seccomp', also: [], missing: [] };
const node = (evidence: Partial<SealEvidence>, rest: Partial<NodeFacts> = {}): NodeFacts => ({
  node: 'n',
  up: true,
  sandbox,
  heardSeconds: 0.5,
  evidence: { ...well, ...evidence },
  ...rest,
});
const of = (nodes: readonly NodeFacts[], rest: Partial<SealFacts> = {}) =>
  verdictOf({ nodes, connectList: ENFORCED, proofWanted: true, ...rest });
const levelOf = (...nodes: NodeFacts[]): string => sealName(of(nodes).level);

describe('one node', () => {
  const LACKS: readonly [string, NodeFacts, string][] = [
    ['lacks nothing', node({}), 'engine'],
    ['runs nothing, and was never tried', node({ engines: [], canary: undefined }), 'engine'],
    ['was greeted, and not heard yet', node({}, { evidence: undefined }), 'engine'],
    ['runs without a sandbox', node({ sandboxOff: true }), 'none'],
    ['can have none', node({}, { sandbox: { ...sandbox, ok: false } }), 'none'],
    ['has a monitor that is not heard', node({ blind: 'its warden is not heard' }), 'blind'],
    ['was not looked at', node({ ageSeconds: 5 }), 'blind'],
    ['is not heard', node({}, { heardSeconds: 5 }), 'blind'],
    [
      'does not tell of an engine',
      node({ engines: [engine(EnforcedState.ENFORCED_STATE_UNKNOWN)] }),
      'blind',
    ],
    [
      'has an engine that is not locked in',
      node({ engines: [engine(EnforcedState.ENFORCED_STATE_NO)] }),
      'degraded',
    ],
    ['has an agent without a guard', node({ connectList: MISSING }), 'degraded'],
    ['runs engines without proof', node({ canary: undefined }), 'degraded'],
    ['has old proof', node({ canary: canary(CanaryState.CANARY_STATE_PASSED, 5_000) }), 'degraded'],
    ['has a way out', node({ canary: canary(CanaryState.CANARY_STATE_FAILED) }), 'degraded'],
    [
      'has a canary that broke off',
      node({ canary: canary(CanaryState.CANARY_STATE_BROKEN) }),
      'degraded',
    ],
    ['saw its canary not', node({ canary: canary(CanaryState.CANARY_STATE_BLIND) }), 'blind'],
    ['is away with an engine', node({}, { up: false }), 'blind'],
    ['is away without one', node({ engines: [] }, { up: false }), 'engine'],
  ];
  it.each(LACKS)('%s', (_, facts, level) => expect(levelOf(facts)).toBe(level));
});

it('a coordinator without a guard leaves it degraded', () => {
  const { level, reasons } = of([node({})], { connectList: MISSING });
  expect([sealName(level), reasons.map((reason) => reason.node)]).toEqual(['degraded', ['']]);
});

it('a throw-away cluster needs no canary, but one that failed counts', () => {
  const rest = { proofWanted: false };
  expect(sealName(of([node({ canary: undefined })], rest).level)).toBe('engine');
  const failed = node({ canary: canary(CanaryState.CANARY_STATE_FAILED) });
  expect(sealName(of([failed], rest).level)).toBe('degraded');
});

it('another node never makes it better, and every lack has its reason', () => {
  const facts = fc
    .record({
      sandboxOff: fc.boolean(),
      blind: fc.constantFrom('', 'not heard'),
      ageSeconds: fc.constantFrom(1, 9),
      enforced: fc.constantFrom(1, 2, 3),
      state: fc.constantFrom(1, 2, 3, 4),
      list: fc.constantFrom(ENFORCED, MISSING),
      up: fc.boolean(),
    })
    .map(({ sandboxOff, blind, ageSeconds, enforced, state, list, up }) =>
      node(
        {
          sandboxOff,
          blind,
          ageSeconds,
          engines: [engine(enforced)],
          canary: canary(state),
          connectList: list,
        },
        { up },
      ),
    );
  const ORDER = ['none', 'blind', 'degraded', 'engine'];
  const rank = (nodes: readonly NodeFacts[]): number => ORDER.indexOf(sealName(of(nodes).level));
  fc.assert(
    fc.property(fc.array(facts, { maxLength: 4 }), facts, (some, more) => {
      expect(rank([...some, more])).toBe(Math.min(rank(some), rank([more])));
      const { level, reasons } = of([...some, more]);
      expect(reasons.length > 0).toBe(level !== SealLevel.SEAL_LEVEL_ENGINE);
    }),
  );
});

describe('whose turn it is for the hourly canary', () => {
  const turn = (name: string, rest: Partial<Turn> = {}): Turn => ({
    node: name,
    up: true,
    sandboxOff: false,
    canarySeconds: 4_000,
    upSeconds: 9_000,
    failedSeconds: undefined,
    ...rest,
  });
  it('the one whose proof is the oldest, one that has none before all', () => {
    expect(nextTurn([turn('a'), turn('b', { canarySeconds: 5_000 })])).toBe('b');
    expect(nextTurn([turn('a'), turn('b', { canarySeconds: undefined })])).toBe('b');
  });
  it('nobody who is away, unwalled, fresh, just started, or has just failed', () => {
    const none: Partial<Turn>[] = [
      { up: false },
      { sandboxOff: true },
      { canarySeconds: 3_000 },
      { canarySeconds: undefined, upSeconds: 10 },
      { failedSeconds: 60 },
    ];
    for (const rest of none) expect(nextTurn([turn('a', rest)])).toBeUndefined();
    expect(nextTurn([turn('a', { failedSeconds: 400 })])).toBe('a');
  });
});
