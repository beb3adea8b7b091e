/** Bad files, templates and prompts through the real commands: one clear error each, its exit code, nothing left. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { openModel, scalarKey } from '@minikeep/gguf';
import { needCommand, needRoot, randomModelFile, tamper } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonError, minikeep, type Ended, type RunOptions } from './minikeep.ts';
import { Place } from './nothing-left.ts';

const TIMEOUT_MS = 240_000;
/** Every case through every command; CI, where each start of a program costs, takes each case once. */
const LONG = process.env['MINIKEEP_LONG'] === '1';
const MIB = 1024 * 1024;
/** For what is refused before anything starts. */
const AT_ONCE_SECONDS_MAX = 20;
/** For what an engine has to be started for, and ended by a time-out of 10 s. */
const TEMPLATE_SECONDS_MAX = 60;

const place = new Place();
let model = '';
let bytes = Buffer.alloc(0);
beforeAll(async () => {
  model = await randomModelFile('llama', { layers: 4 });
  bytes = readFileSync(model);
});
afterAll(() => place.remove());

function command(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return minikeep([...args, '--json'], {
    ...options,
    env: { ...place.env, ...options.env },
    onStart: (child) => place.watch(child),
  });
}

const run = (args: readonly string[], options?: RunOptions): Promise<Ended> =>
  command(['run', ...args, '--threads', '1', '--local', '1'], options);

/** Ended with that error: one line of JSON on stderr, nothing on stdout, nothing left behind. */
async function expectError(ended: Ended, code: string | RegExp, exit: number): Promise<void> {
  expect(ended.stdout).toBe('');
  const error = jsonError(ended);
  expect(error.code).toMatch(code);
  expect(error.message).not.toBe('');
  expect(error.next).not.toBe('');
  expect(ended.code, error.message).toBe(exit);
  await place.expectNothingLeft();
}

function damaged(name: string, content: Uint8Array): string {
  const file = path.join(place.root, `${name}.gguf`);
  writeFileSync(file, content);
  return file;
}

describe('a file cut at the border of its sections', { timeout: TIMEOUT_MS }, () => {
  /** Lengths at and around everything that a GGUF file consists of. */
  async function borders(): Promise<number[]> {
    const { metadata, tensors } = await openModel(model);
    const values = [...metadata.values()].map(({ range }) => range);
    const keysEnd = Math.max(...values.map((r) => r.offset + r.bytes));
    const places = [...tensors.values()].map((t) => t.offset);
    const dataStart = Math.min(...places);
    const lastRecord = bytes.indexOf([...tensors.keys()].at(-1) ?? '');
    return [4, 8, 16, 24, values[0]?.offset ?? 0, keysEnd, lastRecord, dataStart, bytes.length - 1];
  }

  it('is refused by run, model show, model check and plan', async () => {
    const commands = [['run'], ['model', 'show'], ['model', 'check'], ['plan']];
    for (const [i, length] of (await borders()).entries()) {
      const file = damaged('cut', bytes.subarray(0, length));
      const turn = i % commands.length;
      for (const words of LONG ? commands : commands.slice(turn, turn + 1)) {
        const prompt = words[0] === 'run' ? ['Hi'] : [];
        const ended = await command([...words, file, ...prompt]);
        await expectError(ended, 'gguf.truncated', 1);
        expect(ended.seconds).toBeLessThan(AT_ONCE_SECONDS_MAX);
      }
    }
  });
});

describe('a file with one wrong number', { timeout: TIMEOUT_MS }, () => {
  const NAME = 'blk.0.attn_q.weight';
  /** Where the record of a tensor has its name, and its type after name, count of dimensions and two of them. */
  const nameAt = (name = NAME): number => bytes.indexOf(name);
  const typeAt = (name = NAME): number => nameAt(name) + name.length + 4 + 2 * 8;
  const changed = (change: (copy: Buffer) => void): Buffer => {
    const copy = Buffer.from(bytes);
    change(copy);
    return copy;
  };

  it.each<[string, () => Uint8Array, string]>([
    ['2^63 tensors', () => changed((b) => b.writeBigUInt64LE(2n ** 63n, 8)), 'gguf.limit'],
    ['2^63 keys', () => changed((b) => b.writeBigUInt64LE(2n ** 63n, 16)), 'gguf.limit'],
    [
      'a type that is not known',
      () => changed((b) => b.writeUInt32LE(99, typeAt())),
      'gguf.tensor_type',
    ],
    [
      'tensors that overlap',
      () =>
        changed((b) => {
          const other = typeAt('blk.1.attn_q.weight') + 4;
          b.copy(b, typeAt() + 4, other, other + 8);
        }),
      'gguf.overlap',
    ],
    ['a name that is no UTF-8', () => changed((b) => b.writeUInt8(0xff, nameAt())), 'gguf.text'],
    ['another magic', () => changed((b) => b.writeUInt8(0x58, 0)), 'gguf.not_gguf'],
  ])('%s', async (_, make, code) => {
    const file = damaged('wrong', make());
    const ended = await run([file, 'Hi']);
    await expectError(ended, code, 1);
    expect(ended.seconds).toBeLessThan(AT_ONCE_SECONDS_MAX);
  });
});

describe('a chat template that is a bad program', { timeout: TIMEOUT_MS }, () => {
  const nested =
    '{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}' +
    '{% endfor %}{% endfor %}{% endfor %}';
  const doubling =
    '{% set ns = namespace(s="aaaaaaaaaa") %}{% for i in range(60) %}' +
    '{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}';

  it.each<[string, string | undefined, string]>([
    ['never ends', nested, 'engine.text_timeout'],
    ['calls itself', '{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}', 'engine.template'],
    ['is enormous', 'a'.repeat(MIB), 'engine.template'],
    ...(LONG
      ? ([
          ['is larger than any', 'a'.repeat(17 * MIB), 'gguf.limit'],
          ['doubles its text again and again', doubling, 'engine.template'],
        ] as [string, string, string][])
      : []),
    ['is nested too deeply', '{% if true %}'.repeat(20_000), 'engine.template'],
    ['is not there', undefined, 'engine.no_template'],
  ])('%s', async (name, template, code) => {
    const file = path.join(place.root, `${name.replaceAll(' ', '-')}.gguf`);
    copyFileSync(model, file);
    const key = 'tokenizer.chat_template';
    await tamper(
      file,
      template === undefined
        ? { removeKeys: [key] }
        : { keys: [scalarKey(key, 'string', template)] },
    );
    const ended = await run([file, 'Hi']);
    await expectError(ended, code, 1);
    expect(ended.seconds).toBeLessThan(TEMPLATE_SECONDS_MAX);
  });

  it('a model without a vocabulary', async () => {
    const file = await randomModelFile('llama', { layers: 4, vocabulary: 'none' });
    await expectError(await run([file, 'Hi']), 'engine.no_vocabulary', 1);
  });
});

describe('a prompt', { timeout: TIMEOUT_MS }, () => {
  it('of ten million characters is too long for any context, whatever it is made of', async () => {
    const large = Buffer.alloc(10_000_000, 'a');
    // Fits the template's limit, but not, as tokens, a message of the engine.
    const middle = Buffer.alloc(7_000_000, 'b ');
    const cases: [Buffer, string[]][] = [
      [large, []],
      [middle, ['--raw']],
      [large, ['--raw']],
      [middle, []],
    ];
    for (const [input, raw] of cases.slice(0, LONG ? cases.length : 2)) {
      const ended = await run([model, '-', '--context', '256', ...raw], { input });
      await expectError(ended, 'generate.prompt_too_long', 2);
      expect(ended.seconds).toBeLessThan(TEMPLATE_SECONDS_MAX);
    }
  });

  // Token ids of exactly that length are in local-cluster.test.ts; this is the whole way.
  if (LONG)
    it('exactly as long as the context is answered, one more is refused', async () => {
      const ask = (context: number): Promise<Ended> =>
        run([model, 'x '.repeat(40), '--raw', '--temperature', '0', '--context', `${context}`]);
      const done = (ended: Ended): Record<string, unknown> =>
        JSON.parse(ended.stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
      const tokens = Number(done(await ask(256))['prompt_tokens']);
      expect(tokens).toBeGreaterThan(40);
      expect(done(await ask(tokens))).toMatchObject({
        completion_tokens: 1,
        finish_reason: 'length',
      });
      const over = await ask(tokens - 1);
      await expectError(over, 'generate.prompt_too_long', 2);
      expect(jsonError(over)).toMatchObject({
        prompt_tokens: `${tokens}`,
        context_tokens: `${tokens - 1}`,
      });
    });
});

describe('cuts that the architecture forbids', { timeout: TIMEOUT_MS }, () => {
  it('are refused before anything is loaded, with those that are possible', async () => {
    const gemma = await randomModelFile('gemma3', { layers: 18 });
    for (const [args, code, exit] of [
      [['run', gemma, 'Hi', '--cuts', '9'], 'plan.cuts', 2],
      [['model', 'check', gemma, '--cuts', '9'], 'slice.cut_refused', 1],
    ] as const) {
      const ended = await command(args);
      await expectError(ended, code, exit);
      expect(jsonError(ended).message).toContain('sliding windows');
      expect(jsonError(ended).next).toMatch(/6, 12/);
      expect(ended.seconds).toBeLessThan(AT_ONCE_SECONDS_MAX);
    }
  });
});

describe('flags', { timeout: TIMEOUT_MS }, () => {
  it.each([
    ['run MODEL Hi --top-p 0'],
    ['run MODEL Hi --stop='],
    ['run MODEL Hi --cuts 2,1'],
    ['run MODEL Hi --mode exactly'],
    ['run MODEL Hi --top-k'],
    ['model check MODEL --every-cut --stages 2'],
  ])('%s', async (line) => {
    const ended = await command(line.split(' ').map((word) => (word === 'MODEL' ? model : word)));
    await expectError(ended, /^usage\./, 2);
    expect(ended.seconds).toBeLessThan(AT_ONCE_SECONDS_MAX);
  });
});

describe('a full disk for temporary files', { timeout: TIMEOUT_MS }, () => {
  it('is said by run and by model check', async (ctx) => {
    needRoot(ctx);
    needCommand(ctx, 'mount', 'mount');
    const disk = path.join(place.root, 'full');
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
    try {
      // Keys and configurations of the run fit into what is left, slices of the check do not.
      for (const [args, used] of [
        [['run', model, 'Hi'], 64],
        [['model', 'check', model], 20],
      ] as const) {
        writeFileSync(path.join(disk, 'other'), Buffer.alloc(used * 1024));
        const ended = await command(args, { env: { TMPDIR: disk } });
        await expectError(ended, 'system.disk_full', 1);
        expect(execFileSync('ls', [disk], { encoding: 'utf8' })).toBe('other\n');
      }
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});

describe('a machine that is not as usual', { timeout: TIMEOUT_MS }, () => {
  it.runIf(process.platform === 'linux')(
    'a cache where nothing can be made: says why',
    async () => {
      const ended = await command(['run', model, 'Hi'], {
        env: { XDG_CACHE_HOME: '/proc/nowhere' },
      });
      await expectError(ended, 'store.unusable', 1);
      expect(jsonError(ended).message).toContain('ENOENT');
    },
  );

  it('no way to its own address: says so, and not something about certificates', async (ctx) => {
    needRoot(ctx);
    const unshare = needCommand(ctx, 'unshare', 'util-linux');
    const ended = await command(['run', model, 'Hi'], { by: [unshare, '--net'] });
    await expectError(ended, 'network.loopback_down', 4);
  });
});
