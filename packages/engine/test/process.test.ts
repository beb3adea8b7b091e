// Engines as they really run: a process of their own, sealed in the sandbox, behind two pipes.
import { mkdtemp, rm, truncate, copyFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { sandboxPlatform } from '@minikeep/containment';
import { scalarKey } from '@minikeep/gguf';
import { decodeFrame, encodeFrame, type Frame, type ResultFrame } from '@minikeep/protocol';
import { llama, randomModelFile, recipeFile, TINY } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { EngineClient, EngineEvent } from '../src/client/engine-client.ts';
import { startEngine, type StartEngine } from '../src/client/start-engine.ts';
import { cutModel, EXACT, Line, open, sameBits, someTokens, stepFrame, type Part } from './line.ts';

let folder = '';
const running: EngineClient[] = [];
const platform = sandboxPlatform();
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-process-'));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((engine) => engine.kill('the test is over')));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function start(options: Omit<StartEngine, 'platform'>): Promise<EngineClient> {
  const engine = await startEngine({ platform, ...options });
  running.push(engine);
  return engine;
}

/** A reader of frames: each call gives the next one. */
function frames(engine: EngineClient): () => Promise<Frame> {
  const arrived: Frame[] = [];
  let wake = (): void => {};
  engine.onFrame((bytes) => {
    arrived.push(decodeFrame(bytes));
    wake();
  });
  return async () => {
    while (arrived.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return arrived.shift()!;
  };
}

const model = (): Promise<string> => randomModelFile('qwen2', { weights: 'Q8_0', layers: 4 });
const context = { ...EXACT, n_ctx: 256, n_batch: 64 };

describe('stages', () => {
  it('compute in their sandboxes what the whole computes here, and account for their time', async () => {
    const file = await model();
    const whole = await Line.load(await cutModel(file, [], folder, context));
    const { stages } = await cutModel(file, [1], folder, context);
    const engines: EngineClient[] = [];
    for (const load of stages) engines.push(await start({ load }));
    const [first, second] = engines as [EngineClient, EngineClient];
    first.onFrame((bytes) => second.sendFrame(bytes));
    const next = frames(second);
    const steps: Part[][] = [
      [{ seq: 2, tokens: someTokens(20, 384), position: 0, logits: true }],
      [{ seq: 2, tokens: [5], position: 20, logits: true, sample: true }],
    ];
    for (const [i, parts] of steps.entries()) {
      const ops = i === 0 ? [open(2, { temperature: 0 })] : [];
      const here = whole.step(parts, ops);
      await first.sendFrame(encodeFrame(stepFrame(parts, ops)));
      const there = (await next()) as ResultFrame;
      expect(there.outputs.length).toBe(here.outputs.length);
      for (const [k, output] of there.outputs.entries()) {
        expect(sameBits(output.logits, here.outputs[k]!.logits)).toBe(true);
        expect(output.token).toBe(here.outputs[k]!.token);
      }
      expect(there.timings).toHaveLength(2);
      expect(there.timings.every((t) => t.computeMicros > 0)).toBe(true);
    }
    for (const engine of engines) {
      const { memory } = engine.ready;
      expect(Math.min(memory.weights_bytes, memory.kv_bytes, memory.compute_bytes)).toBeGreaterThan(
        0,
      );
      expect(engine.violations).toEqual([]);
      expect((await engine.stop()).violations).toBe(0);
    }
    whole.free();
  });

  it('survive anything that is not a step, and say what was wrong', async () => {
    const events: EngineEvent[] = [];
    const [load] = (await cutModel(await model(), [], folder, context)).stages;
    const engine = await start({ load: load!, onEvent: (event) => events.push(event) });
    const next = frames(engine);
    const good = encodeFrame(
      stepFrame([{ seq: 0, tokens: [1, 2], position: 0, sample: true }], [open(0)]),
    );
    const result = encodeFrame({ kind: 'result', epoch: 1, step: 9, timings: [], outputs: [] });
    const closed = encodeFrame({ ...stepFrame([{ seq: 4, tokens: [1], position: 0 }]), step: 77 });
    for (const bad of [new Uint8Array(), good.slice(0, 60), result, closed])
      await engine.sendFrame(bad);
    await engine.sendFrame(good);
    expect(await next()).toMatchObject({ kind: 'result', step: 1 });
    const errors = events.filter((event) => event.type === 'step_error');
    expect(errors.map((event) => [event.step, event.error.code])).toEqual([
      [0, 'frame.malformed'],
      [0, 'frame.malformed'],
      [9, 'frame.malformed'],
      [77, 'engine.sequence'],
    ]);
  });

  it('tell their agent when they are killed, and why', async () => {
    const events: EngineEvent[] = [];
    const [load] = (await cutModel(await model(), [], folder, context)).stages;
    const engine = await start({ load: load!, onEvent: (event) => events.push(event) });
    process.kill(engine.pid, 'SIGKILL');
    await engine.exited;
    await expect(engine.sendFrame(new Uint8Array(10))).rejects.toMatchObject({
      code: 'engine.gone',
    });
    const ends = events.filter((event) => event.type === 'exited');
    expect(ends).toHaveLength(1);
    expect(ends[0]?.error?.code).toBe('engine.gone');
  });
});

describe('a start that cannot succeed', () => {
  const load = async (slice: string) => {
    const [stage] = (await cutModel(await model(), [], folder, context)).stages;
    return { ...stage!, slice };
  };

  it('a file cut short, one that is no model, and one with another number of layers', async () => {
    const file = await model();
    const short = path.join(folder, 'short.gguf');
    await copyFile(file, short);
    await truncate(short, 3000);
    await expect(start({ load: await load(short) })).rejects.toMatchObject({
      code: 'gguf.truncated',
    });
    const other = path.join(folder, 'other.gguf');
    await writeFile(other, 'not a model');
    await expect(start({ load: await load(other) })).rejects.toMatchObject({
      code: 'gguf.not_gguf',
    });
    const wrong = { ...(await load(file)), layers: [0, 5] as const };
    await expect(start({ load: wrong })).rejects.toMatchObject({ code: 'engine.slice_misfit' });
  });

  it('a tensor of another shape: llama.cpp’s own words, and no process left', async () => {
    const recipe = llama(TINY, 4, { tied: false, ropeFrequencies: false });
    const tensors = recipe.tensors.map((t) =>
      t.name === 'blk.2.ffn_up.weight' ? { ...t, shape: [t.shape[0]!, 64] } : t,
    );
    const file = await recipeFile('bad-shape', { ...recipe, tensors }, { folder });
    await expect(start({ load: await load(file) })).rejects.toMatchObject({
      code: 'engine.load_failed',
      message: expect.stringContaining('blk.2.ffn_up.weight') as string,
    });
  });

  it('is given up when its caller gives up', async () => {
    const controller = new AbortController();
    const starting = startEngine({
      platform,
      load: await load(await model()),
      signal: controller.signal,
      onEvent: (event) => {
        if (event.type === 'progress') controller.abort();
      },
    });
    await expect(starting).rejects.toMatchObject({ code: 'engine.start_cancelled' });
  });
});

describe('the text engine', () => {
  const withTemplate = async (template: string): Promise<string> => {
    const recipe = llama(TINY, 1, { tied: true, ropeFrequencies: false });
    const keys = [
      ...recipe.keys,
      scalarKey('tokenizer.chat_template.tool_use', 'string', template),
    ];
    return recipeFile('template', { ...recipe, keys }, { folder });
  };
  const chat = {
    op: 'chat',
    messages: [{ role: 'user', content: 'x' }],
    add_generation_prompt: true,
    now_seconds: 0,
  } as const;

  it('answers from inside the sandbox', async () => {
    const engine = await start({ load: { type: 'load_text', file: await model() } });
    const { prompt, tokens } = await engine.text(chat);
    expect(prompt).toBe('<|turn|>user\nx<|end|>\n<|turn|>assistant\n');
    expect(await engine.text({ op: 'detokenize', tokens, special: true })).toMatchObject({
      text: expect.stringContaining('user\nx') as string,
    });
    expect(engine.violations).toEqual([]);
  });

  it('is ended when a template never ends, and whoever waits is told', async () => {
    const loop =
      '{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}{% endfor %}';
    const engine = await start({ load: { type: 'load_text', file: await withTemplate(loop) } });
    // The model's other template still works.
    expect((await engine.text(chat)).tokens.length).toBeGreaterThan(3);
    const hanging = engine.text(
      { ...chat, template_arguments: { tools: [] } },
      { timeoutMs: 1500 },
    );
    const behind = engine.text(chat);
    await expect(hanging).rejects.toMatchObject({ code: 'engine.text_timeout' });
    await expect(behind).rejects.toMatchObject({ code: 'engine.gone' });
    expect((await engine.exited).reason).not.toBe('');
  });

  it('is ended when a template eats memory without end', async () => {
    const grow =
      '{% set ns = namespace(l=[]) %}{% for a in range(90000) %}{% for b in range(90000) %}' +
      '{% set ns.l = ns.l + ns.l + [a] %}{% endfor %}{% endfor %}';
    const engine = await start({ load: { type: 'load_text', file: await withTemplate(grow) } });
    await expect(
      engine.text({ ...chat, template_arguments: { tools: [] } }, { timeoutMs: 8_000 }),
    ).rejects.toMatchObject({
      code: expect.stringMatching(/^engine\.(gone|text_timeout|template)$/) as string,
    });
  });
});
