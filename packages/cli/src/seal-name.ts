/** The seal's levels in the words of CLI.md. */
import { SealLevel } from '@minikeep/protocol/v1';

const NAMES: ReadonlyMap<SealLevel, string> = new Map([
  [SealLevel.SEAL_LEVEL_NONE, 'none'],
  [SealLevel.SEAL_LEVEL_ENGINE, 'engine'],
  [SealLevel.SEAL_LEVEL_NODE, 'node'],
  [SealLevel.SEAL_LEVEL_BLIND, 'blind'],
  [SealLevel.SEAL_LEVEL_DEGRADED, 'degraded'],
]);

/** What is not known counts as not sealed. */
export const sealName = (level: SealLevel): string => NAMES.get(level) ?? 'none';
