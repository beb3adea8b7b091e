// One stage after the other in this process: operations on sequences, sampling, refusals. The comparison of whole and
// split over all architectures is the conformance suite's; here it is what a scheduler relies on.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ResultFrame, SamplingParams, SequenceOp, StepFrame } from '@minikeep/protocol';
import { needSharedModel, randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drawSeed } from '../src/stage/sampling.ts';
import { Stage } from '../src/stage/stage.ts';
import { binding, cutModel, EXACT, Line, open, sameBits, someTokens, stepFrame } from './line.ts';

let folder = '';
let whole: Line;
let split: Line;
const context = { ...EXACT, n_ctx: 256, n_batch: 128 };
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-stage-'));
  const file = await randomModelFile('llama', { weights: 'Q8_0', layers: 6 });
  whole = await Line.load(await cutModel(file, [], folder, context));
  split = await Line.load(await cutModel(file, [2, 3], folder, context));
});
afterAll(async () => {
  whole.free();
  split.free();
  await rm(folder, { recursive: true, force: true });
});

const close = (...seqs: number[]): SequenceOp[] => seqs.map((seq) => ({ op: 'close', seq }));
const logits = (frame: ResultFrame): Float32Array[] => frame.outputs.map((o) => o.logits);
const same = (a: ResultFrame, b: ResultFrame): boolean =>
  a.outputs.length > 0 &&
  a.outputs.length === b.outputs.length &&
  logits(a).every((row, i) => sameBits(row, logits(b)[i] ?? new Float32Array()));

describe('split', () => {
  it('equals whole: sequences out of order, prompts beside single rows', () => {
    const steps: [Parameters<Line['step']>[0], SequenceOp[]][] = [
      [
        [
          { seq: 5, tokens: someTokens(9, 384, 1), position: 0, logits: true },
          { seq: 1, tokens: someTokens(4, 384, 2), position: 0, logits: true },
        ],
        [open(5), open(1)],
      ],
      [
        [
          { seq: 5, tokens: [7], position: 9, logits: true },
          { seq: 0, tokens: someTokens(20, 384, 3), position: 0, logits: true },
          { seq: 1, tokens: [9], position: 4, logits: true },
        ],
        [open(0)],
      ],
      [
        [1, 5, 0].map((seq, i) => ({
          seq,
          tokens: [50 + i],
          position: [5, 10, 20][i] ?? 0,
          logits: true,
        })),
        [],
      ],
    ];
    for (const [parts, ops] of steps)
      expect(same(whole.step(parts, ops), split.step(parts, ops))).toBe(true);
    for (const line of [whole, split]) line.step([], close(0, 1, 5));
  });
});

describe('operations on sequences', () => {
  const prompt = someTokens(30, 384, 4);
  const next = { tokens: [11], position: 30, logits: true };

  it('a copy goes on as the original does, and the original goes on untouched', () => {
    for (const line of [whole, split]) {
      line.step([{ seq: 0, tokens: prompt, position: 0 }], [open(0)]);
      const copied: SequenceOp = { op: 'copy', seq: 3, source: 0, p0: 0, p1: -1 };
      const both = line.step(
        [
          { seq: 3, ...next },
          { seq: 0, ...next },
        ],
        [open(3), copied],
      );
      const [a, b] = logits(both);
      expect(sameBits(a ?? new Float32Array(1), b ?? new Float32Array())).toBe(true);
      line.step([], close(0, 3));
    }
  });

  it('a copy of a part goes on as if only that part had been computed', () => {
    whole.step([{ seq: 0, tokens: prompt, position: 0 }], [open(0)]);
    const part: SequenceOp = { op: 'copy', seq: 1, source: 0, p0: 0, p1: 20 };
    const row = { tokens: [11], position: 20, logits: true };
    const copied = whole.step([{ seq: 1, ...row }], [open(1), part]);
    whole.step([{ seq: 2, tokens: prompt.slice(0, 20), position: 0 }], [open(2)]);
    expect(same(copied, whole.step([{ seq: 2, ...row }]))).toBe(true);
    whole.step([], close(0, 1, 2));
  });

  it('after a removal a sequence goes on from there', () => {
    whole.step([{ seq: 0, tokens: prompt, position: 0 }], [open(0)]);
    const first = whole.step([{ seq: 0, ...next }]);
    whole.step([{ seq: 0, tokens: [12], position: 31 }]);
    const again = whole.step([{ seq: 0, ...next }], [{ op: 'remove', seq: 0, p0: 30, p1: -1 }]);
    expect(same(first, again)).toBe(true);
    whole.step([], close(0));
  });

  it('a closed slot starts empty', () => {
    const a = whole.step([{ seq: 0, tokens: prompt, position: 0, logits: true }], [open(0)]);
    whole.step([], close(0));
    const b = whole.step([{ seq: 0, tokens: prompt, position: 0, logits: true }], [open(0)]);
    expect(same(a, b)).toBe(true);
    whole.step([], close(0));
  });
});

describe('a step that is refused changes nothing', () => {
  const refused: [string, string, (good: StepFrame) => StepFrame][] = [
    ['a wrong position', 'engine.position', (f) => part(f, { position: 7 })],
    ['a sequence that is not open', 'engine.sequence', (f) => part(f, { seq: 6 })],
    ['a slot that is not there', 'engine.sequence', (f) => ({ ...f, ops: [open(8)] })],
    ['an open slot opened again', 'engine.sequence', (f) => ({ ...f, ops: [open(0)] })],
    [
      'a copy onto itself',
      'engine.sequence',
      (f) => ({ ...f, ops: [open(1), { op: 'copy', seq: 1, source: 1, p0: 0, p1: -1 }] }),
    ],
    [
      'a token outside the vocabulary',
      'engine.token',
      (f) => ({ ...f, tokens: Int32Array.of(384) }),
    ],
    ['a negative token', 'engine.token', (f) => ({ ...f, tokens: Int32Array.of(-1) })],
    [
      'hidden rows for the first stage',
      'engine.slice_misfit',
      (f) => ({ ...f, rows: { type: 1, nEmbd: 96, bytes: new Uint8Array(384) } }),
    ],
    [
      'too many rows',
      'engine.batch_full',
      () => stepFrame([{ seq: 0, tokens: someTokens(129, 384), position: 10 }]),
    ],
    [
      'more than the context',
      'engine.context_full',
      () => stepFrame([{ seq: 0, tokens: someTokens(250, 384), position: 10 }]),
    ],
    [
      'two spans of one sequence',
      'engine.sequence',
      () => stepFrame([10, 11].map((position) => ({ seq: 0, tokens: [5], position }))),
    ],
    [
      'sampling parameters that are none',
      'engine.sampling',
      (f) => ({ ...f, ops: [{ op: 'open', seq: 2, sampling: new TextEncoder().encode('{}') }] }),
    ],
  ];
  const part = (frame: StepFrame, change: object): StepFrame => ({
    ...frame,
    spans: frame.spans.map((span) => ({ ...span, ...change })),
  });

  for (const [what, code, spoil] of refused)
    it(what, () => {
      const tokens = someTokens(10, 384, 6);
      const good = { seq: 0, tokens: [5], position: 10, logits: true };
      whole.step([{ seq: 0, tokens, position: 0 }], [open(0)]);
      const [stage] = whole.stages;
      expect(() => stage?.step(spoil(stepFrame([good])))).toThrow(
        expect.objectContaining({ code }),
      );
      const after = whole.step([good]);
      whole.step([], close(0));
      whole.step([{ seq: 0, tokens, position: 0 }], [open(0)]);
      expect(same(after, whole.step([good]))).toBe(true);
      whole.step([], close(0));
    });

  it('logits are refused where the stage was loaded without them', async () => {
    const file = await randomModelFile('llama', { weights: 'Q8_0', layers: 6 });
    const [load] = (await cutModel(file, [], folder, context)).stages;
    const stage = await Stage.open(binding(), { ...load!, logits: false }, () => {});
    const frame = stepFrame([{ seq: 0, tokens: [5], position: 0, logits: true }], [open(0)]);
    expect(() => stage.step(frame)).toThrow(expect.objectContaining({ code: 'engine.logits' }));
    stage.free();
  });
});

describe('sampling', () => {
  /** Tokens of an answer; `feed` replaces what is fed back. */
  function generate(
    line: Line,
    seq: number,
    sampling: Partial<SamplingParams>,
    count: number,
    replayed: readonly number[] = [],
  ): number[] {
    const prompt = someTokens(12, 384, 9);
    const tokens: number[] = [...replayed];
    line.step(
      [{ seq, tokens: prompt, position: 0 }],
      [open(seq, { ignore_eog: true, ...sampling })],
    );
    // The prompt's last row is computed with the first token after it.
    let next = { tokens: [17], position: 12 };
    for (const token of replayed) {
      line.step([{ seq, ...next, replay: next.position > 12 }]);
      next = { tokens: [token], position: next.position + 1 };
    }
    while (tokens.length < count) {
      const [output] = line.step([
        { seq, ...next, sample: true, replay: replayed.length > 0 },
      ]).outputs;
      const token = output?.token ?? -1;
      tokens.push(token);
      next = { tokens: [token], position: next.position + 1 };
    }
    line.step([], close(seq));
    return tokens;
  }

  it('temperature 0 takes the most likely token', () => {
    const prompt = someTokens(12, 384, 9);
    const { outputs } = whole.step(
      [{ seq: 0, tokens: prompt, position: 0, sample: true, logits: true }],
      [open(0, { temperature: 0 })],
    );
    const row = outputs.at(-1)?.logits ?? new Float32Array();
    expect(outputs.at(-1)?.token).toBe(row.indexOf(Math.max(...row)));
    expect(outputs.slice(0, -1).every((o) => o.token === -1)).toBe(true);
    whole.step([], close(0));
  });

  it('is settled by the seed, whole or split, and in whatever slot', () => {
    const hot = { temperature: 1.5, top_k: 0, top_p: 1, min_p: 0, seed: 42 };
    const a = generate(whole, 0, hot, 20);
    expect(generate(split, 0, hot, 20)).toEqual(a);
    expect(generate(whole, 4, hot, 20)).toEqual(a);
    expect(generate(whole, 0, { ...hot, seed: 43 }, 20)).not.toEqual(a);
    expect(new Set(a).size).toBeGreaterThan(5);
  });

  it('goes on after a recovery as if nothing had happened', () => {
    const hot = { temperature: 1.2, repeat_penalty: 1.5, penalty_last_n: 8, seed: 7 };
    const a = generate(whole, 0, hot, 20);
    expect(generate(whole, 1, hot, 20, a.slice(0, 11))).toEqual(a);
  });

  it('penalties push repetitions away', () => {
    const greedy = { temperature: 0 };
    const plain = generate(whole, 0, greedy, 40);
    const penalised = generate(
      whole,
      0,
      { ...greedy, repeat_penalty: 5, presence_penalty: 20, penalty_last_n: 64 },
      40,
    );
    expect(new Set(penalised).size).toBe(40);
    expect(new Set(plain).size).toBeLessThan(40);
  });

  it('top-k of one is greedy at any temperature', () => {
    const greedy = generate(whole, 0, { temperature: 0 }, 10);
    expect(generate(whole, 0, { temperature: 3, top_k: 1 }, 10)).toEqual(greedy);
  });

  it('draws from every position its own seed, and never the one that means any', () => {
    const seeds = Array.from({ length: 10_000 }, (_, position) => drawSeed(1, position));
    expect(new Set(seeds).size).toBe(10_000);
    expect(seeds.every((s) => s >= 0 && s < 0xffff_ffff)).toBe(true);
  });
});

describe('a trained model', () => {
  it('stops at a stop string that spans tokens, and keeps its text to itself', async (ctx) => {
    const file = needSharedModel(ctx, 'stories260K.gguf');
    const line = await Line.load(await cutModel(file, [], folder, context));
    const tell = (stop: string[], cutAt: number): { text: string; finish: string } => {
      let text = '';
      let next = { tokens: [1, 403, 407], position: 0 };
      let ops = [open(0, { temperature: 0, stop })];
      for (let i = 0; i < cutAt; i++) {
        const [output] = line.step([{ seq: 0, ...next, sample: true }], ops).outputs;
        ops = [];
        text += new TextDecoder().decode(output?.text);
        if (output?.finish !== 'none') {
          line.step([], close(0));
          return { text, finish: output?.finish ?? '' };
        }
        next = { tokens: [output.token], position: next.position + next.tokens.length };
      }
      const rest = line.step([], close(0)).outputs;
      text += rest.map((o) => new TextDecoder().decode(o.text)).join('');
      return { text, finish: 'cut' };
    };
    const free = tell([], 60);
    expect(free.finish).toBe('cut');
    expect(free.text.length).toBeGreaterThan(60);
    const stop = free.text.slice(40, 47);
    expect(tell([stop], 60)).toEqual({
      text: free.text.slice(0, free.text.indexOf(stop)),
      finish: 'stop',
    });
    // Cut short, a text that only began like a stop string is shown after all.
    const begun = `${free.text.slice(-3)}§`;
    expect(tell([begun], 60)).toEqual(free);
    line.free();
  });
});
