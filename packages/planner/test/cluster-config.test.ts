/** Cluster files: what is accepted, and that every mistake is named. */
import { describe, expect, it } from 'vitest';
import { parseClusterConfig } from '../src/cluster-config.ts';

const GIB = 1024 ** 3;

describe('parseClusterConfig', () => {
  it('reads nodes, with the budget of their platform', () => {
    const nodes = parseClusterConfig(
      `nodes:
  - { name: mini-1, memory: 24 GiB }
  - { name: mini-2, memory: 64 GiB, memory_per_second: 273 GB }
  - { name: box, platform: linux, memory: 32 GiB, budget: 20 GiB }
`,
      'c.yaml',
    );
    expect(nodes.map((n) => [n.name, n.budgetBytes / GIB])).toEqual([
      ['mini-1', 16],
      ['mini-2', 48],
      ['box', 20],
    ]);
    expect(nodes[1]?.memoryBytesPerSecond).toBe(273e9);
  });

  it.each([
    ['', /nodes|expected object/i],
    ['nodes: []', /at least one node/],
    ['nodes: [{ name: a }]', /nodes\.0\.memory/],
    ['nodes: [{ name: a, memory: much }]', /is no size/],
    ['nodes: [{ name: a, memory: 1 GiB, colour: red }]', /colour/],
    ['nodes: [{ name: a, memory: 1 GiB }, { name: a, memory: 1 GiB }]', /same name/],
    ['nodes: [{ name: "A B", memory: 1 GiB }]', /a name has/],
    ['nodes: [', /c\.yaml/],
    ['a: &a [1]\nb: *a\nnodes: []', /alias|c\.yaml/i],
  ])('refuses %j', (text, message) => {
    expect(() => parseClusterConfig(text, 'c.yaml')).toThrow(message);
  });
});
