/** Stack files: what is accepted, and that every mistake is named with its line and key. */
import { MinikeepError } from '@minikeep/protocol';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseStack, stackNetwork, stackNodes } from '../src/index.ts';
import { stackJsonSchema } from '../src/stack/json-schema.ts';

const GIB = 1024 ** 3;
const CONFIGS = path.join(import.meta.dirname, '../../../cluster-configs');

const WHOLE = `cluster: drawer
nodes:
  - name: mini-1
    role: coordinator
    ssh: { host: 192.168.1.11, user: admin, identity_file: ~/.ssh/id_ed25519 }
    addresses: [192.168.1.11, 10.0.0.1, 'fd00::1']
    hardware: { chip: M4, memory: 24 GiB }
  - name: mini-2
    ssh: { host: mini-2.local, port: 2222 }
    hardware: { chip: M4 Pro, memory: 64 GiB, wired_limit: 56 GiB }
  - name: box
    platform: linux
    hardware: { memory: 32 GiB, budget: 20 GiB, memory_per_second: 51.2 GB, teraops: 1.5 }
network: { latency_seconds: 0.0002, bytes_per_second: 118 MB }
links:
  - { between: [mini-1, mini-2], latency_seconds: 0.00005, bytes_per_second: 2.5 GB }
models:
  - { name: deepseek-r1-distill-qwen-14b@Q4_K_M, context: 8192, parallel: 2 }
`;

function fault(text: string): MinikeepError {
  try {
    parseStack(text, 's.yaml');
  } catch (error) {
    if (error instanceof MinikeepError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('parseStack', () => {
  it('reads a whole file, with what follows from chip and platform', () => {
    const stack = parseStack(WHOLE, 's.yaml');
    expect(stack.nodes[0]?.ssh).toEqual({
      host: '192.168.1.11',
      port: 22,
      user: 'admin',
      identity_file: '~/.ssh/id_ed25519',
    });
    expect(stack.nodes.map((n) => n.role)).toEqual(['coordinator', 'node', 'node']);
    expect(stack.links[0]?.bytes_per_second).toBe(2.5e9);
    const nodes = stackNodes(stack);
    expect(nodes.map((n) => [n.name, n.budgetBytes / GIB])).toEqual([
      ['mini-1', 16],
      ['mini-2', 56],
      ['box', 20],
    ]);
    expect(nodes.map((n) => n.memoryBytesPerSecond)).toEqual([120e9 * 0.7, 273e9 * 0.7, 51.2e9]);
    expect(nodes.map((n) => n.speedSource)).toEqual(['looked_up', 'looked_up', 'stated']);
    expect(nodes.map((n) => (n.wiredLimit?.highestBytes ?? 0) / GIB)).toEqual([
      20, 57.599609375, 0,
    ]);
    expect(stackNetwork(stack)).toMatchObject({
      coordinator: 'mini-1',
      pairs: [{ link: { bytesPerSecond: 2.5e9 } }],
    });
  });

  it('takes the same as JSON', () => {
    const node = { name: 'a', role: 'coordinator', hardware: { memory: 1024 ** 3 } };
    expect(
      parseStack(JSON.stringify({ cluster: 'c', nodes: [node] }), 's.json').nodes,
    ).toHaveLength(1);
  });

  const replaced = (from: string, to: string): string => {
    expect(WHOLE).toContain(from);
    return WHOLE.replace(from, to);
  };
  it.each<[string, () => string, number, string, RegExp]>([
    ['nothing', () => '', 0, '', /expected object/],
    ['no nodes', () => 'cluster: a\nnodes: []\n', 2, 'nodes', /at least one node/],
    ['a list', () => '- a\n', 1, '', /expected object/],
    ['a broken file', () => 'cluster: [\n', 2, '', /./],
    ['no cluster', () => replaced('cluster: drawer\n', ''), 1, 'cluster', /missing/],
    ['a key twice', () => replaced('network:', 'cluster: x\nnetwork:'), 14, '', /unique/],
    [
      'an unknown key',
      () => replaced('platform: linux', 'platform: linux\n    colour: red'),
      13,
      'nodes[2].colour',
      /no key/,
    ],
    [
      'an unknown key inside',
      () => replaced('port: 2222', 'prot: 2222'),
      9,
      'nodes[1].ssh.prot',
      /no key/,
    ],
    [
      'a node twice',
      () => replaced('name: mini-2', 'name: mini-1'),
      8,
      'nodes[1].name',
      /"mini-1" is there twice/,
    ],
    [
      'an address twice',
      () => replaced('port: 2222 }', 'port: 2222 }\n    addresses: [10.0.0.1]'),
      10,
      'nodes[1].addresses[0]',
      /twice/,
    ],
    [
      'an ssh address twice',
      () => replaced('host: mini-2.local, port: 2222', 'host: 192.168.1.11'),
      9,
      'nodes[1].ssh.host',
      /twice/,
    ],
    [
      'no IPv4 address',
      () => replaced('10.0.0.1', '10.0.0.256'),
      6,
      'nodes[0].addresses[1]',
      /"10\.0\.0\.256" is no IPv4 address/,
    ],
    [
      'an option for ssh',
      () => replaced('host: mini-2.local', 'host: -oProxyCommand=x'),
      9,
      'nodes[1].ssh.host',
      /no address/,
    ],
    [
      'an option as user',
      () => replaced('user: admin', 'user: -l'),
      5,
      'nodes[0].ssh.user',
      /no user name/,
    ],
    ['a port too high', () => replaced('2222', '70000'), 9, 'nodes[1].ssh.port', /70000/],
    [
      'no size',
      () => replaced('memory: 24 GiB', 'memory: much'),
      7,
      'nodes[0].hardware.memory',
      /no size/,
    ],
    [
      'a name with a space',
      () => replaced('name: box', 'name: the box'),
      11,
      'nodes[2].name',
      /has to be a name/,
    ],
    [
      'an unknown chip',
      () => replaced('chip: M4,', 'chip: M9,'),
      7,
      'nodes[0].hardware.chip',
      /M9/,
    ],
    [
      'no coordinator',
      () => replaced('    role: coordinator\n', ''),
      2,
      'nodes',
      /role: coordinator/,
    ],
    [
      'two coordinators',
      () => replaced('platform: linux', 'platform: linux\n    role: coordinator'),
      13,
      'nodes[2].role',
      /mini-1 is/,
    ],
    [
      'a budget above the memory',
      () => replaced('20 GiB', '64 GiB'),
      13,
      'nodes[2].hardware.budget',
      /more than/,
    ],
    [
      'a wired limit on Linux',
      () => replaced('budget: 20 GiB', 'wired_limit: 20 GiB'),
      13,
      'nodes[2].hardware.wired_limit',
      /only macOS/,
    ],
    [
      'a link to nobody',
      () => replaced('[mini-1, mini-2]', '[mini-1, mini-9]'),
      16,
      'links[0].between[1]',
      /no node/,
    ],
    [
      'a link to itself',
      () => replaced('[mini-1, mini-2]', '[box, box]'),
      16,
      'links[0].between',
      /two machines/,
    ],
    ['an alias', () => replaced('cluster: drawer', 'cluster: &a drawer\nx: *a'), 0, '', /alias/i],
  ])('names the place of %s', (_, text, line, key, message) => {
    const error = fault(text());
    expect(error.code).toBe('stack.invalid');
    expect(error.details).toMatchObject({ line, key });
    expect(error.message).toMatch(message);
    if (line > 0) expect(error.message).toContain(`s.yaml, line ${line}: `);
  });

  it('names every mistake at once', () => {
    const error = fault(
      WHOLE.replace('M4,', 'M9,').replace('2222', '0').replace('name: box', 'nam: b'),
    );
    expect(error.message.split('\n').map((line) => /line \d+/.exec(line)?.[0])).toEqual(
      expect.arrayContaining(['line 7', 'line 9', 'line 11']),
    );
  });

  it('refuses what is made to exhaust a parser, quickly', () => {
    const began = performance.now();
    for (const text of [
      `cluster: ${'['.repeat(500_000)}`,
      `cluster: ${'{a: '.repeat(200_000)}`,
      '- '.repeat(400_000),
      '? '.repeat(400_000),
      'x'.repeat(1024 * 1024 + 1),
      Array.from({ length: 300 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
    ])
      expect(fault(text).code).toBe('stack.invalid');
    expect(performance.now() - began).toBeLessThan(30_000);
  });

  it('answers anything with a stack or its one error', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 40 }),
        fc.nat(WHOLE.length),
        (noise, at) => {
          for (const text of [noise, WHOLE.slice(0, at) + noise + WHOLE.slice(at)]) {
            try {
              parseStack(text, 's.yaml');
            } catch (error) {
              expect(error).toMatchObject({ code: 'stack.invalid' });
            }
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

it('the schema for editors is the one that reads the files (node scripts/stack-schema.mjs)', () => {
  const kept: unknown = JSON.parse(readFileSync(path.join(CONFIGS, 'stack.schema.json'), 'utf8'));
  expect(kept).toEqual(JSON.parse(JSON.stringify(stackJsonSchema())));
});
