/**
 * How long one decoded token takes in a range of layers. Decoding reads every active weight once, so the time is
 * bytes over memory bandwidth; what else a token costs is the same for every cut.
 */
import type { ModelFacts, NodeFacts } from './types.ts';

/** A frame's header, one row aside. */
const FRAME_OVERHEAD_BYTES = 128;

export interface CostModel {
  /** True: seconds. False: in units of the model's average layer, because a node's speed is unknown. */
  readonly inSeconds: boolean;
  stage(node: NodeFacts, first: number, end: number): number;
  /** Handing one row from this node to the next used one. */
  hop(node: NodeFacts): number;
}

export function costModel(model: ModelFacts, nodes: readonly NodeFacts[]): CostModel {
  const active = [0];
  for (const [i, layer] of model.layers.entries())
    active.push((active[i] ?? 0) + layer.activeBytes);
  const count = model.layers.length;
  const inSeconds = nodes.every((node) => node.memoryBytesPerSecond !== undefined);
  const averageLayer = Math.max(1, (active[count] ?? 0) / count);
  return {
    inSeconds,
    stage(node, first, end) {
      const bytes =
        (active[end] ?? 0) - (active[first] ?? 0) + (end === count ? model.headBytes : 0);
      return bytes / (inSeconds ? (node.memoryBytesPerSecond ?? 1) : averageLayer);
    },
    hop(node) {
      if (!inSeconds || node.link === undefined) return 0;
      const bytes = model.embeddingLength * 4 + FRAME_OVERHEAD_BYTES;
      return node.link.latencySeconds + bytes / node.link.bytesPerSecond;
    },
  };
}
