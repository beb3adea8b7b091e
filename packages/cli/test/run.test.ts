/** `minikeep run` as a user types it, with real nodes and engines: answers, errors, interrupts, and nothing left. */
import { needCommand, needRoot, onlyOn, randomModelFile, TINY } from '@minikeep/testkit';
import { execFileSync, type ChildProcess } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonError, minikeep, type Ended, type RunOptions } from './minikeep.ts';
import { Place } from './nothing-left.ts';
import { SANDBOX_FLAGS } from './sandbox-flags.ts';
import { writeSparseModel } from './sparse-model.ts';

const LAYERS = 4;
/** Each run starts a dozen processes, on what may be two busy cores. */
const TIMEOUT_MS = 240_000;
const NOBODY = 65_534;
const LONG = process.env['MINIKEEP_LONG'] === '1';
/** Moments of a start, from "still reading its own program" to "computing". */
const MOMENTS_MS = LONG
  ? Array.from({ length: 60 }, (_, i) => 40 + 50 * i)
  : [60, 300, 600, 1_000, 1_700];
let model = '';
beforeAll(async () => {
  model = await randomModelFile('llama', { layers: LAYERS });
});

const place = new Place();
afterAll(() => place.remove());

const COMMON = ['--threads', '1', '--context', '256', ...SANDBOX_FLAGS];

function run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return minikeep(['run', ...args, ...COMMON], {
    ...options,
    env: { ...place.env, ...options.env },
    onStart: (child) => {
      place.watch(child);
      options.onStart?.(child);
    },
  });
}

interface Line {
  readonly type: string;
  readonly id?: number;
  readonly text?: string;
  readonly [field: string]: unknown;
}

const lines = (ended: Ended): Line[] =>
  ended.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

// oxlint-disable-next-line no-control-regex -- control characters are what this is about
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

it('a prompt is not to be read in the list of processes', { timeout: TIMEOUT_MS }, async (ctx) => {
  onlyOn(ctx, 'linux');
  let seen = '';
  const ended = await run(['--local', '1', '--max-tokens', '2', model, 'my own secret'], {
    onStart: (child) => {
      const look = setInterval(() => {
        try {
          seen = readFileSync(`/proc/${child.pid}/cmdline`, 'utf8').replaceAll('\0', ' ') || seen;
        } catch {
          clearInterval(look);
        }
      }, 20);
      child.once('exit', () => clearInterval(look));
    },
  });
  expect(ended.code).toBe(0);
  expect(seen.trim()).toBe('minikeep');
});

describe('an answer', { timeout: TIMEOUT_MS }, () => {
  const greedy = ['--temperature', '0', '--max-tokens', '12'];

  it('streams as JSON and ends with what it took', async () => {
    const ended = await run([model, 'Hello there', '--json', '--local', '3', ...greedy]);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const all = lines(ended);
    const tokens = all.filter((line) => line.type === 'token');
    const done = all.at(-1);
    expect(done).toMatchObject({
      type: 'done',
      finish_reason: 'length',
      token_ids: tokens.map((token) => token.id),
      completion_tokens: 12,
      sealed: SANDBOX_FLAGS.length === 0 ? 'engine' : 'none',
      violations: 0,
    });
    const stages = done?.['stages'] as { node: string; layers: [number, number] }[];
    expect(stages.map((stage) => stage.node)).toEqual(['node-1', 'node-2', 'node-3']);
    expect(stages[0]?.layers[0]).toBe(0);
    expect(stages.at(-1)?.layers[1]).toBe(LAYERS);
    for (const field of ['prompt_tokens', 'prompt_tokens_per_second', 'decode_tokens_per_second'])
      expect(done?.[field]).toBeGreaterThan(0);
    expect(place.processCount).toBeGreaterThan(7);
    await place.expectNothingLeft();
  });

  it('is the same for every cut, and only text on stdout', async () => {
    const prompt = [model, 'Hello there', ...greedy];
    const two = await run([...prompt, '--cuts', '1']);
    const json = await run([...prompt, '--cuts', '2,3', '--json']);
    expect(two).toMatchObject({ code: 0 });
    const text = lines(json)
      .filter((line) => line.type === 'token')
      .map((line) => line.text ?? '')
      .join('');
    expect(two.stdout.replaceAll(/[^\w]/g, '')).toBe(shown(text).replaceAll(/[^\w]/g, ''));
    expect(two.stdout.endsWith('\n')).toBe(true);
  });

  it('is repeated by its seed, from stdin too', async () => {
    const args = ['--temperature', '1.5', '--max-tokens', '40', '--json'];
    const first = await run([model, 'Hello', ...args]);
    const seed = String(lines(first).at(-1)?.['seed']);
    const again = await run([model, '-', ...args, '--seed', seed], { input: 'Hello' });
    const other = await run([model, 'Hello', ...args, '--seed', `${(Number(seed) + 1) % 1000}`]);
    const ids = (ended: Ended): unknown => lines(ended).at(-1)?.['token_ids'];
    expect(ids(again)).toEqual(ids(first));
    expect(ids(other)).not.toEqual(ids(first));
    // Random weights say anything, control characters included; a terminal gets none of them.
    const raw = [first, other]
      .flatMap(lines)
      .map((line) => line.text ?? '')
      .join('');
    const plain = await run([model, 'Hello', ...args.slice(0, -1), '--seed', seed]);
    expect(raw.length).toBeGreaterThan(0);
    expect(plain.stdout).not.toMatch(CONTROL);
  });

  it('stops before a stop string', async () => {
    const args = [model, 'Hello there', '--raw', '--temperature', '0', '--max-tokens', '30'];
    const whole = lines(await run([...args, '--json']));
    const text = whole.map((line) => line.text ?? '').join('');
    const stop = text.slice(6, 8);
    const ended = lines(await run([...args, '--json', '--stop', stop]));
    expect(ended.map((line) => line.text ?? '').join('')).toBe(text.slice(0, text.indexOf(stop)));
    expect(ended.at(-1)).toMatchObject({ finish_reason: 'stop' });
  });

  const shown = (text: string): string => text.replaceAll(CONTROL, '');
});

describe('a mistake', { timeout: TIMEOUT_MS }, () => {
  it.each([
    [['nonsense', 'Hello'], 'model.unknown', 2],
    [['MODEL'], 'usage.no_prompt', 2],
    [['MODEL', ''], 'prompt.empty', 2],
    [['MODEL', 'Hi', '--cuts', '1', '--local', '3'], 'usage.cuts', 2],
    [['MODEL', 'Hi', '--cuts', '9'], 'plan.cuts', 2],
    [['MODEL', 'Hi', '--local', '5'], 'plan.too_many_nodes', 2],
    [['MODEL', 'Hi', '--temperature', 'hot'], 'usage.invalid_argument', 2],
    [['MODEL', 'Hi', 'there'], 'usage.excess_arguments', 2],
    [['./missing.gguf', 'Hi'], /^gguf\./, 1],
    [['/', 'Hi'], /^gguf\./, 1],
  ])('%j', async (args, code, exit) => {
    const ended = await run([...args.map((arg) => (arg === 'MODEL' ? model : arg)), '--json']);
    expect(ended).toMatchObject({ code: exit, stdout: '' });
    expect(jsonError(ended).code).toMatch(code);
    expect(ended.seconds).toBeLessThan(20);
    await place.expectNothingLeft();
  });

  it('on stdin: nothing, too much, no UTF-8', async () => {
    const args = [model, '-', '--json'];
    expect(jsonError(await run(args, { input: ' \n' })).code).toBe('prompt.empty');
    expect(jsonError(await run(args, { input: Buffer.from([0x41, 0xff]) })).code).toBe(
      'prompt.encoding',
    );
    const large = Buffer.alloc(17 * 1024 * 1024, 0x61);
    expect(jsonError(await run(args, { input: large })).code).toBe('prompt.too_large');
    await place.expectNothingLeft();
  });

  it('a prompt longer than the context', async () => {
    const ended = await run([model, 'x '.repeat(2_000), '--json']);
    expect(ended).toMatchObject({ stdout: '' });
    expect(ended.code).not.toBe(0);
    expect(jsonError(ended).code).toBe('generate.prompt_too_long');
    await place.expectNothingLeft();
  });

  it('a model bigger than memory', async () => {
    const file = path.join(place.root, 'huge.gguf');
    const huge = { ...TINY, embedding: 32_768, heads: 256, headSize: 128, feedForward: 131_072 };
    expect(await writeSparseModel(file, huge, 64)).toBeGreaterThan(1e12);
    const ended = await run([file, 'Hi', '--json']);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(jsonError(ended).code).toBe('plan.no_fit');
    expect(ended.seconds).toBeLessThan(20);
  });

  it('no permission', async (ctx) => {
    // Root may read everything, so it is somebody else who tries.
    const uid = process.getuid?.() === 0 ? NOBODY : undefined;
    const as = uid === undefined ? {} : { uid };
    if ((await minikeep(['--version'], as)).code !== 0)
      ctx.skip('not here: other users can not read this checkout');
    const file = path.join(place.root, 'secret.gguf');
    copyFileSync(model, file);
    chmodSync(file, 0);
    chmodSync(place.root, 0o755);
    const ended = await minikeep(['run', file, 'Hi', '--json'], as);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(jsonError(ended).code).toMatch(/^gguf\./);
  });

  it('a full disk', async (ctx) => {
    needRoot(ctx);
    needCommand(ctx, 'mount', 'mount');
    const disk = path.join(place.root, 'disk');
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
    try {
      const ended = await run([model, 'Hi', '--json'], { env: { XDG_CACHE_HOME: disk } });
      expect(ended).toMatchObject({ code: 1, stdout: '' });
      expect(jsonError(ended).code).toBe('store.disk_full');
      await place.expectNothingLeft();
    } finally {
      execFileSync('umount', [disk]);
    }
  });

  it('a temporary folder that is not there', async () => {
    const missing = path.join(place.root, 'not-there');
    const ended = await run([model, 'Hi', '--json'], { env: { TMPDIR: missing } });
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(jsonError(ended).code).toBe('local.no_folder');
  });
});

describe('Ctrl-C', { timeout: TIMEOUT_MS }, () => {
  const endless = (): string[] => [
    model,
    'Hello',
    '--temperature',
    '1',
    '--max-tokens',
    '200',
    '--json',
  ];
  const after =
    (ms: number, signals: readonly number[] = [0]) =>
    (child: ChildProcess) => {
      for (const extra of signals) setTimeout(() => child.kill('SIGINT'), ms + extra);
    };

  it.each(MOMENTS_MS)('after %i ms leaves nothing', async (ms) => {
    const ended = await run(endless(), { onStart: after(ms) });
    // A very early one meets a process that has no handler yet, a very late one may come after the end.
    if (ended.signal === 'SIGINT') expect(ended.stdout + ended.stderr).toBe('');
    else if (ended.code !== 0) {
      expect(ended.code).toBe(130);
      expect(jsonError(ended).code).toBe('run.interrupted');
    }
    expect(ended.seconds).toBeLessThan(ms / 1000 + 15);
    await place.expectNothingLeft();
  });

  it('in the middle of an answer ends it', async () => {
    // The tiny model may be done before the signal arrives: such a try says nothing, another one does.
    for (let tries = 0; tries < 6; tries++) {
      let sent = false;
      const ended = await run(endless(), {
        onStdout: (text, child) => {
          if (!sent && text.includes('token')) sent = child.kill('SIGINT');
        },
      });
      await place.expectNothingLeft();
      if (ended.code === 0 && lines(ended).at(-1)?.type === 'done') continue;
      expect(ended.code).toBe(130);
      expect(lines(ended).at(-1)?.type).toBe('token');
      return;
    }
    expect.fail('no answer was ever interrupted');
  });

  it('twice ends at once', async () => {
    for (const ms of [300, 700, 1_200]) {
      const ended = await run(endless(), { onStart: after(ms, [0, 20]) });
      expect([0, 130, null]).toContain(ended.code);
      expect(ended.seconds).toBeLessThan(ms / 1000 + 5);
      await place.expectNothingLeft();
    }
  });

  it('SIGTERM ends in order, SIGKILL leaves no process', async () => {
    const term = await run(endless(), {
      onStart: (child) => setTimeout(() => child.kill('SIGTERM'), 900),
    });
    expect([0, 130, null]).toContain(term.code);
    await place.expectNothingLeft();
    const kill = await run(endless(), {
      onStart: (child) => setTimeout(() => child.kill('SIGKILL'), 900),
    });
    expect(kill.signal).toBe('SIGKILL');
    await place.expectNoProcess(30_000);
  });

  it('a reader that leaves ends it in peace', async () => {
    const ended = await run(endless(), {
      onStdout: (_, child) => child.stdout?.destroy(),
    });
    expect(ended.code).toBe(0);
    expect(ended.stderr).toBe('');
    await place.expectNoProcess();
  });
});
