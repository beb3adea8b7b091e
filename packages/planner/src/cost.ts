/**
 * How long one decoded token takes in a range of layers. Decoding reads every active weight once and computes with it
 * once; a machine does both at the same time, so the slower of the two counts. What else a token costs is the same
 * for every cut.
 */
import type { LinkFacts, ModelFacts, NetworkFacts, NodeFacts } from './types.ts';

/** A frame's header, one row aside. */
const FRAME_OVERHEAD_BYTES = 128;
/** A multiplication and an addition for each number. */
const OPERATIONS_PER_VALUE = 2;

export interface CostModel {
  /** True: seconds. False: in units of the model's average layer, because a node's speed is unknown. */
  readonly inSeconds: boolean;
  stage(node: NodeFacts, first: number, end: number): number;
  waitsFor(node: NodeFacts, first: number, end: number): 'memory' | 'compute';
  /** Handing one row from one node to the next. */
  hop(from: NodeFacts, to: NodeFacts): number;
  /** The way of a token from the coordinator to the first node. */
  entry(first: NodeFacts): number;
  /** The way of a token from the last node to the coordinator. */
  exit(last: NodeFacts): number;
}

export function costModel(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  network: NetworkFacts = {},
): CostModel {
  const count = model.layers.length;
  const bytes = prefixSums(model.layers.map((layer) => layer.activeBytes));
  const values = prefixSums(model.layers.map((layer) => layer.activeValues));
  const inSeconds = nodes.every((node) => node.memoryBytesPerSecond !== undefined);
  const averageLayer = Math.max(1, (bytes[count] ?? 0) / count);
  const sum = (prefix: readonly number[], head: number, first: number, end: number): number =>
    (prefix[end] ?? 0) - (prefix[first] ?? 0) + (end === count ? head : 0);
  const reading = (node: NodeFacts, first: number, end: number): number =>
    sum(bytes, model.headBytes, first, end) /
    (inSeconds ? (node.memoryBytesPerSecond ?? 1) : averageLayer);
  const computing = (node: NodeFacts, first: number, end: number): number =>
    inSeconds && node.operationsPerSecond !== undefined
      ? (OPERATIONS_PER_VALUE * sum(values, model.headValues, first, end)) /
        node.operationsPerSecond
      : 0;
  const linkOf = links(network);
  const way = (from: string, to: string, payload: number): number => {
    const link = inSeconds && from !== to ? linkOf(from, to) : undefined;
    return link === undefined
      ? 0
      : link.latencySeconds + (payload + FRAME_OVERHEAD_BYTES) / link.bytesPerSecond;
  };
  const { coordinator } = network;
  return {
    inSeconds,
    stage: (node, first, end) => Math.max(reading(node, first, end), computing(node, first, end)),
    waitsFor: (node, first, end) =>
      computing(node, first, end) > reading(node, first, end) ? 'compute' : 'memory',
    hop: (from, to) => way(from.name, to.name, model.embeddingLength * 4),
    entry: (first) => (coordinator === undefined ? 0 : way(coordinator, first.name, 0)),
    exit: (last) => (coordinator === undefined ? 0 : way(last.name, coordinator, 0)),
  };
}

/** Seconds that one prompt token adds to a full batch in the slowest of `stages`; undefined when a speed is unknown. */
export function promptSeconds(
  model: ModelFacts,
  stages: readonly { readonly node: NodeFacts; readonly layers: readonly [number, number] }[],
): number | undefined {
  let slowest = 0;
  for (const { node, layers } of stages) {
    if (node.operationsPerSecond === undefined) return undefined;
    const values = model.layers
      .slice(layers[0], layers[1])
      .reduce((all, layer) => all + layer.activeValues, 0);
    slowest = Math.max(slowest, (OPERATIONS_PER_VALUE * values) / node.operationsPerSecond);
  }
  return slowest;
}

function prefixSums(values: readonly number[]): number[] {
  const sums = [0];
  for (const [i, value] of values.entries()) sums.push((sums[i] ?? 0) + value);
  return sums;
}

const pairKey = (a: string, b: string): string => (a < b ? `${a}\n${b}` : `${b}\n${a}`);

function links(network: NetworkFacts): (from: string, to: string) => LinkFacts | undefined {
  const pairs = new Map(
    (network.pairs ?? []).map(({ between: [a, b], link }) => [pairKey(a, b), link]),
  );
  return (from, to) => pairs.get(pairKey(from, to)) ?? network.fallback;
}
