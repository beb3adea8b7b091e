/** Whether what the nodes hold is a wanted deployment, whole and as it was placed: then nothing has to be loaded. */
import type { ContextSettings, HostedPart } from '@minikeep/protocol/v1';
import type { NodeView, WantedDeployment } from './types.ts';

/** The parts of the stages, in order; undefined unless every stage is loaded in the row's epoch. */
export function partsToAttach(
  row: WantedDeployment,
  nodes: ReadonlyMap<string, NodeView>,
): HostedPart[] | undefined {
  const { stages } = row.placement;
  const found: HostedPart[] = [];
  for (const [i, placed] of stages.entries()) {
    const part = nodes.get(placed.node)?.parts?.find((p) => p.deployment === row.name);
    const load = part?.stage?.load;
    const fits =
      part?.epoch === row.epoch &&
      !part.starting &&
      part.stage?.ready !== undefined &&
      load !== undefined &&
      load.first === (i === 0) &&
      load.last === (i === stages.length - 1) &&
      load.layers?.start === placed.layers[0] &&
      load.layers.end === placed.layers[1] &&
      placed.sliceSha256 !== '' &&
      load.sliceSha256 === placed.sliceSha256 &&
      load.embeddingSha256 === placed.embeddingSha256 &&
      sameContext(load.context, row.placement.context);
    if (!fits) return undefined;
    found.push(part);
  }
  return found;
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
