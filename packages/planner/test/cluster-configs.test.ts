/** The documented examples: each is read, and each model that it names is placed as its comment says. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  fitting,
  knownShape,
  modelFacts,
  parseStack,
  plan,
  planRaised,
  shapeModel,
  stackNetwork,
  stackNodes,
  type Placement,
  type PlanOptions,
  type Raised,
  type Stack,
} from '../src/index.ts';

const GIB = 1024 ** 3;
const FOLDER = path.join(import.meta.dirname, '../../../cluster-configs');
const FILES = readdirSync(FOLDER).filter((file) => file.endsWith('.yaml'));

const read = (file: string): { text: string; stack: Stack } => {
  const text = readFileSync(path.join(FOLDER, file), 'utf8');
  return { text, stack: parseStack(text, file) };
};

function asked(
  stack: Stack,
  name: string,
  context = 4096,
): { placement: Placement | undefined; raised: () => Raised | undefined } {
  const facts = modelFacts(shapeModel(knownShape(name)));
  const nodes = stackNodes(stack);
  const options: PlanOptions = {
    contextTokens: context,
    parallel: 1,
    batchRows: 512,
    mode: 'exact',
    anyOrder: true,
    useEveryNode: false,
    network: stackNetwork(stack),
  };
  return {
    placement: fitting(() => plan(facts, nodes, options)),
    raised: () => planRaised(facts, nodes, options),
  };
}

it('there are examples', () => {
  expect(FILES.toSorted()).toEqual([
    'eight-m4-pro-64gb.yaml',
    'four-m4-pro-24gb.yaml',
    'linux-only.yaml',
    'mixed-drawer.yaml',
    'two-m4-16gb.yaml',
  ]);
});

describe.each(FILES)('%s', (file) => {
  const { text, stack } = read(file);

  it('names its schema, and a command that plans with it', () => {
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\/stack\.schema\.json\n/);
    const [, model = '', named] = /minikeep plan (\S+) --nodes (\S+) --explain/.exec(text) ?? [];
    expect(named).toBe(`cluster-configs/${file}`);
    expect(knownShape(model).shape.name).not.toBe('');
  });

  it('holds the models that it is for, at their contexts', () => {
    expect(stack.models.length).toBeGreaterThan(0);
    for (const { name, context } of stack.models) {
      const { placement } = asked(stack, name, context);
      expect(placement, name).toBeDefined();
      expect(placement?.costInSeconds, name).toBe(true);
      for (const { memory, budgetBytes } of placement?.stages ?? [])
        expect(memory.total).toBeLessThanOrEqual(budgetBytes);
    }
  });
});

it('eight M4 Pro with 64 GB: R1 at Q4_K_M needs higher limits, on these machines and so high', () => {
  const { stack } = read('eight-m4-pro-64gb.yaml');
  const facts = modelFacts(shapeModel(knownShape('deepseek-r1-671b@Q4_K_M')));
  const weights =
    facts.layers.reduce((sum, layer) => sum + layer.weightBytes, 0) +
    facts.embeddingBytes +
    facts.headBytes;
  expect(weights / 1e9).toBeCloseTo(404.4, 0);
  expect(stackNodes(stack).reduce((sum, node) => sum + node.budgetBytes, 0) / GIB).toBe(384);
  const { placement, raised } = asked(stack, 'deepseek-r1-671b@Q4_K_M');
  expect(placement).toBeUndefined();
  const { placement: with_, raises } = raised() as Raised;
  expect(with_.stages).toHaveLength(8);
  expect(raises.length).toBeGreaterThan(0);
  for (const stage of with_.stages) {
    const raise = raises.find(({ node }) => node === stage.node);
    expect(raise !== undefined).toBe(stage.memory.total > 48 * GIB);
    if (raise === undefined) continue;
    const mib = Number(/^sudo sysctl iogpu\.wired_limit_mb=(\d+)$/.exec(raise.command)?.[1]);
    expect(mib * 1024 ** 2).toBe(raise.limitBytes);
    expect(raise.limitBytes).toBeGreaterThanOrEqual(stage.memory.total);
    // What macOS needs stays.
    expect(raise.limitBytes).toBeLessThanOrEqual(58 * GIB);
  }
  expect(asked(stack, 'deepseek-r1-671b@Q3_K_M').placement).toBeDefined();
  // No limit helps with twice the weights.
  expect(asked(stack, 'deepseek-r1-671b@Q8_0').raised()).toBeUndefined();
});

it('four M4 Pro with 24 GB hold a 32 B and a 70 B model, not at once R1', () => {
  const { stack } = read('four-m4-pro-24gb.yaml');
  for (const model of ['deepseek-r1-distill-qwen-32b@Q4_K_M', 'llama-3.3-70b@Q4_K_M'])
    expect(asked(stack, model).placement?.stages).toHaveLength(4);
  const r1 = asked(stack, 'deepseek-r1-671b@Q2_K');
  expect(r1.placement).toBeUndefined();
  expect(r1.raised()).toBeUndefined();
});

it('in the mixed drawer the faster machine has more, and every machine what it can hold', () => {
  const { stack } = read('mixed-drawer.yaml');
  const { placement } = asked(stack, 'llama-3.3-70b@Q4_K_M');
  const layers = (node: string): number => {
    const [first = 0, end = 0] = placement?.stages.find((s) => s.node === node)?.layers ?? [];
    return end - first;
  };
  expect(layers('studio')).toBeGreaterThan(layers('mini-pro'));
  expect(layers('mini-pro')).toBeGreaterThan(layers('mini-old'));
});
