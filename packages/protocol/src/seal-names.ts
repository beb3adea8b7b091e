/** The seal's levels, and what a canary came to, in the words that people and programs read. */
import { CanaryState, ConnectListState, EnforcedState, SealLevel } from './generated/v1.ts';

const LEVELS: ReadonlyMap<SealLevel, string> = new Map([
  [SealLevel.SEAL_LEVEL_NONE, 'none'],
  [SealLevel.SEAL_LEVEL_ENGINE, 'engine'],
  [SealLevel.SEAL_LEVEL_NODE, 'node'],
  [SealLevel.SEAL_LEVEL_BLIND, 'blind'],
  [SealLevel.SEAL_LEVEL_DEGRADED, 'degraded'],
]);
const CANARIES: ReadonlyMap<CanaryState, string> = new Map([
  [CanaryState.CANARY_STATE_PASSED, 'passed'],
  [CanaryState.CANARY_STATE_FAILED, 'failed'],
  [CanaryState.CANARY_STATE_BLIND, 'blind'],
  [CanaryState.CANARY_STATE_BROKEN, 'broken'],
]);
const LISTS: ReadonlyMap<ConnectListState, string> = new Map([
  [ConnectListState.CONNECT_LIST_STATE_ENFORCED, 'enforced'],
  [ConnectListState.CONNECT_LIST_STATE_MISSING, 'missing'],
  [ConnectListState.CONNECT_LIST_STATE_OFF, 'off'],
]);
const ENFORCED: ReadonlyMap<EnforcedState, string> = new Map([
  [EnforcedState.ENFORCED_STATE_YES, 'yes'],
  [EnforcedState.ENFORCED_STATE_NO, 'no'],
]);

/** What is not known counts as not sealed. */
export const sealName = (level: SealLevel): string => LEVELS.get(level) ?? 'none';
export const canaryName = (state: CanaryState): string => CANARIES.get(state) ?? 'unknown';
export const connectListName = (state: ConnectListState): string => LISTS.get(state) ?? 'unknown';
export const enforcedName = (state: EnforcedState): string => ENFORCED.get(state) ?? 'unknown';
