/** What a cluster measured, as the planner takes it. */
import { expect, it } from 'vitest';
import { measuredNetwork } from '../src/network.ts';

it('measures of a running cluster become its network', () => {
  const way = (peer: string, latencySeconds: number, bytesPerSecond: number, inUse = true) => {
    const measured = { latencySeconds, bytesPerSecond, inUse };
    return { peer, ...measured };
  };
  const { pairs, fallback } = measuredNetwork([
    { name: 'a', ways: [way('b', 0.002, 1e8), way('b', 0.0001, 1e10, false)] },
    { name: 'b', ways: [way('a', 0.004, 2e8), way('c', 0.001, 1e9), way('gone', 0.001, 1e9)] },
    { name: 'c', ways: [way('a', 0, 0), way('', 0.001, 1e9)] },
  ]);
  expect(pairs).toEqual([
    { between: ['a', 'b'], link: { latencySeconds: 0.002, bytesPerSecond: 1e8 } },
    { between: ['b', 'c'], link: { latencySeconds: 0.0005, bytesPerSecond: 1e9 } },
  ]);
  expect(fallback).toBeDefined();
  expect(measuredNetwork([])).toEqual({});
});
