/** How long slices will be on their way, before the first byte is sent. */
import type { NodeLink } from './node-link.ts';

/** Less is there before it is read. */
const WORTH_BYTES = 256 * 1024 * 1024;

export interface Coming {
  readonly node: NodeLink;
  /** Bytes from this coordinator, and from other nodes. */
  readonly fromHere: number;
  readonly fromNodes: number;
}

/** Seconds; undefined when little is to be sent, or a way can't be measured now. */
export async function forecast(coming: readonly Coming[]): Promise<number | undefined> {
  const byNode = new Map<NodeLink, { fromHere: number; fromNodes: number }>();
  for (const { node, fromHere, fromNodes } of coming) {
    const sum = byNode.get(node) ?? { fromHere: 0, fromNodes: 0 };
    byNode.set(node, { fromHere: sum.fromHere + fromHere, fromNodes: sum.fromNodes + fromNodes });
  }
  const ways: Way[] = [];
  // One after the other: together they would share the coordinator's cable.
  for (const [node, bytes] of byNode) {
    if (bytes.fromHere + bytes.fromNodes === 0) continue;
    const bytesPerSecond = await node.measureWay().catch(() => 0);
    ways.push({ ...bytes, bytesPerSecond });
  }
  const all = ways.reduce((sum, way) => sum + way.fromHere + way.fromNodes, 0);
  if (all < WORTH_BYTES || ways.some((way) => way.bytesPerSecond <= 0)) return undefined;
  return wireSeconds(ways);
}

export interface Way {
  readonly fromHere: number;
  readonly fromNodes: number;
  readonly bytesPerSecond: number;
}

/**
 * All nodes fetch at once. What comes from the coordinator goes through its one cable, one node's share after the
 * other's; what nodes give each other has cables of its own, but ends in the node's.
 */
export function wireSeconds(ways: readonly Way[]): number {
  const cable = ways.reduce((sum, way) => sum + way.fromHere / way.bytesPerSecond, 0);
  const slowest = ways.map((way) => (way.fromHere + way.fromNodes) / way.bytesPerSecond);
  return Math.max(cable, ...slowest);
}
