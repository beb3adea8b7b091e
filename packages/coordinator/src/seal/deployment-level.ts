/** What may be said of one deployment: what its engines said when they were loaded, and what its nodes' evidence leaves. */
import { SealLevel, type EngineReady } from '@minikeep/protocol/v1';

/** Of those nodes together. */
export type SealOf = (nodes: ReadonlySet<string>) => SealLevel;

/** `blind`: attempts of it went unrecorded. */
export function deploymentLevel(
  blind: boolean,
  engines: readonly EngineReady[],
  stages: readonly { readonly node: { readonly name: string } }[],
  sealOf: SealOf,
): SealLevel {
  if (blind) return SealLevel.SEAL_LEVEL_BLIND;
  const enclosed = engines.length > 0 && engines.every((engine) => engine.sandboxed);
  return enclosed
    ? sealOf(new Set(stages.map(({ node }) => node.name)))
    : SealLevel.SEAL_LEVEL_NONE;
}
