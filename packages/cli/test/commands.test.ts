/** The commands that need no cluster, with the real program: exit codes, JSON, errors, untrusted text. */
import { needSharedModel, REPOSITORY } from '@minikeep/testkit';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { jsonError, minikeep } from './minikeep.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'minikeep-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const DIST = path.join(REPOSITORY, 'dist');
const file = (name: string): string => path.join(scratch, name);

describe('usage', () => {
  it('shows help with examples for every command', async () => {
    for (const command of [[], ['plan'], ['model'], ['model', 'show']]) {
      const help = await minikeep([...command, '--help']);
      expect(help.code, command.join(' ')).toBe(0);
      expect(help.stdout).toMatch(/^Usage: minikeep/);
      expect(help.stderr).toBe('');
      if (command.join(' ') !== 'model') expect(help.stdout).toContain('Examples:');
    }
  });

  it('loads little: help and usage errors come at once', () => {
    const loaded = new Set<string>();
    const visit = (name: string): void => {
      if (loaded.has(name)) return;
      loaded.add(name);
      for (const [, next = ''] of readFileSync(path.join(DIST, name), 'utf8').matchAll(
        /^(?:import|\} from|import .* from) "\.\/(minikeep-[\w-]+\.mjs)";$/gm,
      ))
        visit(next);
    };
    visit('minikeep.mjs');
    // The shared pieces were found, or this would prove nothing.
    expect(loaded.size).toBeGreaterThan(2);
    const sizes = [...loaded].map((name) => statSync(path.join(DIST, name)).size);
    expect(sizes.reduce((a, b) => a + b)).toBeLessThan(256 * 1024);
  });

  it('is help on stderr and exit 2 without a command', async () => {
    const ended = await minikeep([]);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toContain('Examples:');
  });

  it('says that a prompt of several words goes in quotes', async () => {
    for (const words of [
      ['Why', 'is', 'the', 'sky', 'blue?'],
      ['hello', 'there'],
    ])
      expect((await minikeep(['run', ...words])).stderr).toContain('in quotes');
  });

  it.each([
    [['nonsense'], 'usage.unknown_command'],
    [['help', 'nonsense'], 'usage.unknown_command'],
    [['run', 'Why', 'is', 'it'], 'usage.excess_arguments'],
    [['plan'], 'usage.missing_argument'],
    [['plan', 'x.gguf', 'y'], 'usage.excess_arguments'],
    [['plan', 'x.gguf', '--nonsense'], 'usage.unknown_option'],
    [['plan', 'x.gguf', '--local', '0'], 'usage.invalid_argument'],
    [['plan', 'x.gguf', '--mode', 'slow'], 'usage.invalid_argument'],
    [['plan', 'x.gguf', '--local', '2', '--nodes', 'c.yaml'], 'usage.nodes'],
    [['plan', 'nonsense'], 'model.unknown'],
  ])('%j is %s', async (args, code) => {
    const ended = await minikeep([...args, '--json']);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(jsonError(ended)).toMatchObject({ code });
    const plain = await minikeep(args);
    expect(plain.code).toBe(2);
    expect(plain.stderr).toMatch(new RegExp(`^error ${code}: .+\n  next: .+\n$`));
  });
});

describe('a file that is no model', () => {
  writeFileSync(file('empty.gguf'), '');
  writeFileSync(file('text.gguf'), 'hello, this is text and not a model at all');
  writeFileSync(file('short.gguf'), 'GGUF\u0003\u0000\u0000\u0000');
  mkdirSync(file('folder.gguf'));

  it.each([
    ['empty.gguf', /^gguf\./],
    ['text.gguf', /^gguf\./],
    ['short.gguf', /^gguf\./],
    ['folder.gguf', /^gguf\./],
    ['missing.gguf', /^gguf\./],
  ])('%s', async (name, code) => {
    for (const command of [['model', 'show'], ['plan']]) {
      const ended = await minikeep([...command, file(name), '--json']);
      expect(ended).toMatchObject({ code: 1, stdout: '' });
      expect(jsonError(ended).code).toMatch(code);
      expect(jsonError(ended).next).not.toBe('');
      expect(ended.seconds).toBeLessThan(20);
    }
  });

  it('a hostile file name is shown, not obeyed', async () => {
    const ended = await minikeep(['model', 'show', file('\u001b]0;owned\u0007.gguf')]);
    expect(ended.code).toBe(1);
    // oxlint-disable-next-line no-control-regex -- control characters are what this is about
    expect(ended.stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f]/);
  });
});

it('a model without a chat template is refused at once, unless the prompt is raw', async (ctx) => {
  const model = needSharedModel(ctx, 'stories260K.gguf');
  const ended = await minikeep(['run', model, 'Hello', '--json']);
  expect(ended).toMatchObject({ code: 1, stdout: '' });
  expect(jsonError(ended).code).toBe('engine.no_template');
  expect(jsonError(ended).next).toContain('--raw');
});

describe('model show and plan', () => {
  it('describe a real model', async (ctx) => {
    const model = needSharedModel(ctx, 'stories260K.gguf');
    const shown = JSON.parse(
      (await minikeep(['model', 'show', model, '--json'])).stdout,
    ) as unknown;
    expect(shown).toMatchObject({
      architecture: 'llama',
      layers: 5,
      sha256: '74e21085558e45b1591b77bafdf8d36df470c930c4b918bbb5b8e66fb0b14b8e',
      split: { supported: true, layers: 5, allowed_cuts: [1, 2, 3, 4] },
    });
    const planned = JSON.parse(
      (await minikeep(['plan', model, '--json', '--cuts', '1,4'])).stdout,
    ) as { stages: { layers: number[]; total_bytes: number; budget_bytes: number }[] };
    expect(planned).toMatchObject({ cuts: [1, 4], layers: 5 });
    expect(planned.stages.map((s) => s.layers)).toEqual([
      [0, 1],
      [1, 4],
      [4, 5],
    ]);
    for (const stage of planned.stages) expect(stage.total_bytes).toBeLessThan(stage.budget_bytes);
  });

  it('say why a model does not fit the nodes of a stack file', async (ctx) => {
    const model = needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf');
    const hardware = '{ memory: 1 GiB, budget: 64 MiB }';
    const text = `cluster: tiny\nnodes: [{ name: a, role: coordinator, hardware: ${hardware} }]\n`;
    writeFileSync(file('tiny.yaml'), text);
    const args = ['plan', model, '--nodes', file('tiny.yaml'), '--json'];
    const ended = await minikeep(args);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(jsonError(ended)).toMatchObject({ code: 'plan.no_fit' });
    truncateSync(file('tiny.yaml'), 10);
    expect(jsonError(await minikeep(args))).toMatchObject({ code: 'stack.invalid' });
    rmSync(file('tiny.yaml'));
    expect(jsonError(await minikeep(args))).toMatchObject({ code: 'config.unreadable' });
  });

  it('say on which machines a limit has to be raised, and what fits without', async () => {
    const config = path.join(REPOSITORY, 'cluster-configs/eight-m4-pro-64gb.yaml');
    const ended = await minikeep(['plan', 'deepseek-r1-671b@Q4_K_M', '--nodes', config, '--json']);
    expect(ended.code).toBe(1);
    expect(jsonError(ended)).toMatchObject({ code: 'plan.no_fit' });
    const document = JSON.parse(ended.stdout) as { raise: { command: string }[] };
    expect(document).toMatchObject({
      fits: false,
      fits_without: 'deepseek-r1-671b@Q3_K_M',
      layers: 61,
    });
    expect(document.raise.length).toBeGreaterThan(0);
    for (const { command } of document.raise)
      expect(command).toMatch(/^sudo sysctl iogpu\.wired_limit_mb=5\d{4}$/);
    const fits = await minikeep([
      'plan',
      'deepseek-r1-671b@Q3_K_M',
      '--nodes',
      config,
      '--explain',
    ]);
    expect(fits).toMatchObject({ code: 0, stderr: '' });
    expect(fits.stdout).toMatch(/Predicted: [\d.]+ tokens\/s/);
    expect(jsonError(await minikeep(['plan', 'deepseek-r2@Q4_K_M', '--json']))).toMatchObject({
      code: 'model.unknown_shape',
    });
  });

  it('end in peace when the reader leaves', async (ctx) => {
    const model = needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf');
    const ended = await minikeep(['model', 'show', model], {
      onStart: (child) => child.stdout?.destroy(),
    });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  });
});
