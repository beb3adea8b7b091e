/** The network of a running cluster as its nodes measured it. */
import type { LinkFacts, NetworkFacts, Placement } from './types.ts';

/** One way from a node to a neighbour, as it was measured there. */
export interface MeasuredWay {
  readonly peer: string;
  /** There and back; 0: not measured. */
  readonly latencySeconds: number;
  readonly bytesPerSecond: number;
  /** Frames go this way. */
  readonly inUse: boolean;
}

/**
 * Of two directions the slower one counts. Pairs that nobody measured, because no frames went there yet, count as the
 * median of the others: as nothing they would be chosen for being unknown.
 */
export function measuredNetwork(
  nodes: readonly { readonly name: string; readonly ways: readonly MeasuredWay[] }[],
): NetworkFacts {
  const names = new Set(nodes.map(({ name }) => name));
  const pairs = new Map<string, { between: readonly [string, string]; link: LinkFacts }>();
  for (const { name, ways } of nodes)
    for (const { peer, latencySeconds, bytesPerSecond, inUse } of ways) {
      if (!inUse || peer === name || !names.has(peer)) continue;
      if (!(bytesPerSecond > 0) || !(latencySeconds > 0)) continue;
      const between: readonly [string, string] = name < peer ? [name, peer] : [peer, name];
      const key = between.join('\n');
      const other = pairs.get(key)?.link;
      const link = {
        latencySeconds: Math.max(latencySeconds / 2, other?.latencySeconds ?? 0),
        bytesPerSecond: Math.min(bytesPerSecond, other?.bytesPerSecond ?? Infinity),
      };
      pairs.set(key, { between, link });
    }
  if (pairs.size === 0) return {};
  const all = [...pairs.values()];
  const fallback = {
    latencySeconds: median(all.map(({ link }) => link.latencySeconds)),
    bytesPerSecond: median(all.map(({ link }) => link.bytesPerSecond)),
  };
  return { fallback, pairs: all };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/**
 * How long the slices of a placement are on their way when no node holds anything: they come from the coordinator's
 * machine, through its one cable. Seconds; undefined when it is not known who that is, or a way's speed.
 */
export function sendingSeconds({ stages, options }: Placement): number | undefined {
  const { coordinator, fallback, pairs = [] } = options.network ?? {};
  if (coordinator === undefined) return undefined;
  let seconds = 0;
  for (const { node, memory } of stages) {
    if (node === coordinator) continue;
    const pair = pairs.find(
      ({ between }) => between.includes(node) && between.includes(coordinator),
    );
    const link = pair?.link ?? fallback;
    if (link === undefined) return undefined;
    seconds += memory.weights / link.bytesPerSecond;
  }
  return seconds;
}
