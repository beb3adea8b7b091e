/**
 * Negative control: rows that are not marked as outputs. Most graphs then drop them before the last layer's end, so a
 * stage would hand on fewer rows than it got; it has to notice, whatever llama.cpp itself says.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Binding } from '../src/native/binding.ts';
import { Stage } from '../src/stage/stage.ts';
import { binding, cutModel, EXACT, open, someTokens, stepFrame } from './line.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-unmarked-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** llama.cpp takes a batch without marks as one whose last row alone is an output. */
function withoutMarks(): Binding {
  const real = binding();
  return { ...real, decode: (context, batch) => real.decode(context, { ...batch, logits: 0n }) };
}

it.each(['llama', 'qwen3moe', 'gemma3', 'deepseek-lite'])(
  '%s: a stage that leaves its rows unmarked fails, instead of handing on too few',
  async (name) => {
    const { stages } = await cutModel(await randomModelFile(name), [6], folder, EXACT);
    const [load] = stages;
    const step = stepFrame([{ seq: 0, tokens: someTokens(20, 384), position: 0 }], [open(0)]);
    const marked = await Stage.open(binding(), load!, () => {});
    const answer = marked.step(step);
    expect(answer.kind === 'step' && answer.rows.bytes.byteLength).toBe(
      20 * 4 * marked.info.n_embd,
    );
    marked.free();
    const unmarked = await Stage.open(withoutMarks(), load!, () => {});
    expect(() => unmarked.step(step)).toThrow(
      expect.objectContaining({
        code: 'engine.graph',
        message: expect.stringMatching(/has \d+ values instead of \d+/) as string,
      }),
    );
    unmarked.free();
  },
);
