/** What the nodes hold of a wanted deployment, as it was placed: only the rest has to be loaded. */
import type { ContextSettings, HostedPart } from '@minikeep/protocol/v1';
import type { FoundParts, NodeView, WantedDeployment } from './types.ts';

/** What is to be connected; undefined when nothing of the row's epoch runs, or something else than what was placed. */
export function partsToAttach(
  row: WantedDeployment,
  nodes: ReadonlyMap<string, NodeView>,
): FoundParts | undefined {
  const { stages } = row.placement;
  const parts: (HostedPart | undefined)[] = [];
  const missing: number[] = [];
  for (const [i, placed] of stages.entries()) {
    const part = nodes.get(placed.node)?.parts?.find((p) => p.deployment === row.name);
    if (placed.sliceSha256 === '') return undefined;
    if (part === undefined || part.epoch < row.epoch) {
      parts.push(undefined);
      missing.push(i);
      continue;
    }
    if (part.epoch === row.epoch && part.stage === undefined) {
      parts.push(part);
      missing.push(i);
      continue;
    }
    const load = part.stage?.load;
    const fits =
      part.epoch === row.epoch &&
      part.stage?.ready !== undefined &&
      load !== undefined &&
      load.first === (i === 0) &&
      load.last === (i === stages.length - 1) &&
      load.layers?.start === placed.layers[0] &&
      load.layers.end === placed.layers[1] &&
      load.sliceSha256 === placed.sliceSha256 &&
      load.embeddingSha256 === placed.embeddingSha256 &&
      sameContext(load.context, row.placement.context);
    if (!fits) return undefined;
    parts.push(part);
  }
  return missing.length === stages.length ? undefined : { parts, missing };
}

function sameContext(a: ContextSettings | undefined, b: ContextSettings): boolean {
  return (
    a !== undefined &&
    a.nCtx === b.nCtx &&
    a.nBatch === b.nBatch &&
    a.nSeqMax === b.nSeqMax &&
    a.mode === b.mode &&
    a.threads === b.threads &&
    a.gpu === b.gpu
  );
}

/** The highest epoch of a deployment that any node knows; 0 when none does. */
export function highestEpoch(name: string, nodes: ReadonlyMap<string, NodeView>): number {
  let highest = 0;
  for (const { parts } of nodes.values())
    for (const part of parts ?? [])
      if (part.deployment === name) highest = Math.max(highest, part.epoch);
  return highest;
}
