/** Which of several levels is said of all of them together: the one that promises least. */
import { SealLevel } from '@minikeep/protocol/v1';

const PROMISES_LEAST_FIRST = [
  SealLevel.SEAL_LEVEL_UNSPECIFIED,
  SealLevel.SEAL_LEVEL_NONE,
  SealLevel.SEAL_LEVEL_BLIND,
  SealLevel.SEAL_LEVEL_DEGRADED,
  SealLevel.SEAL_LEVEL_ENGINE,
  SealLevel.SEAL_LEVEL_NODE,
];

export function leastSealed(levels: readonly SealLevel[]): SealLevel {
  return (
    PROMISES_LEAST_FIRST.find((level) => levels.includes(level)) ?? SealLevel.SEAL_LEVEL_UNSPECIFIED
  );
}
