// The promise of `exact`: split or whole, alone or in a crowd, in whatever chunks, the same logits bit by bit.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { needSharedModel, randomModelFile, WIDE } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ContextSettings } from '../src/messages.ts';
import { cutModel, EXACT, largestDifference, Line, open, sameBits, someTokens } from './line.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'minikeep-exact-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const PROMPT = 300;
const GENERATED = 6;
const CROWD = 8;

/** Logits of the prompt's last row and of each generated row, of one sequence in chunks of `chunk`. */
function alone(line: Line, seq: number, tokens: readonly number[], chunk: number): Float32Array[] {
  const rows: Float32Array[] = [];
  for (let at = 0; at < PROMPT; at += chunk) {
    const end = Math.min(PROMPT, at + chunk);
    const part = { seq, tokens: tokens.slice(at, end), position: at };
    const ops = at === 0 ? [open(seq)] : [];
    if (end < PROMPT) line.step([part], ops);
    else {
      const body = { ...part, tokens: part.tokens.slice(0, -2) };
      if (body.tokens.length > 0) line.step([body], ops);
      const tail = { seq, tokens: tokens.slice(PROMPT - 2, PROMPT), position: PROMPT - 2 };
      const outputs = line.step([{ ...tail, logits: true }], body.tokens.length > 0 ? [] : ops);
      rows.push(...outputs.outputs.map((o) => o.logits));
    }
  }
  for (let i = 0; i < GENERATED; i++) {
    const position = PROMPT + i;
    const part = { seq, tokens: [tokens[position] ?? 0], position, logits: true };
    rows.push(...line.step([part]).outputs.map((o) => o.logits));
  }
  line.step([], [{ op: 'close', seq }]);
  return rows;
}

/** The same for all sequences together: prompts enter one after the other while the earlier ones decode. */
function crowd(
  line: Line,
  tokens: readonly (readonly number[])[],
  chunk: number,
  mayLeaveOne?: boolean,
): Float32Array[][] {
  const rows: Float32Array[][] = tokens.map(() => []);
  const done = tokens.map(() => 0);
  for (let round = 0; done.some((d) => d < PROMPT + GENERATED); round++) {
    const parts = [];
    const ops = [];
    for (const [seq, all] of tokens.entries()) {
      const at = done[seq] ?? 0;
      if (round < seq || at === PROMPT + GENERATED) continue;
      if (at === 0) ops.push(open(seq));
      // The last two rows of a prompt have logits, so they travel together.
      const left = PROMPT - 2 - at;
      // Never a rest of one row: the scheduler sees to that, and the last test shows why.
      const some = left - chunk === 1 && mayLeaveOne !== true ? chunk + 1 : Math.min(chunk, left);
      const count = at >= PROMPT ? 1 : left <= 0 ? 2 : some;
      parts.push({
        seq,
        tokens: all.slice(at, at + count),
        position: at,
        logits: at >= PROMPT - 2,
      });
      done[seq] = at + count;
    }
    for (const output of line.step(parts, ops).outputs) rows[output.seq]?.push(output.logits);
  }
  line.step(
    [],
    tokens.map((_, seq) => ({ op: 'close' as const, seq })),
  );
  return rows;
}

async function crowdEqualsAlone(
  file: string,
  vocabulary: number,
  chunks: { readonly alone: readonly number[]; readonly crowd: readonly number[] },
): Promise<void> {
  const context: ContextSettings = { ...EXACT, n_batch: 2048 };
  const line = await Line.load(await cutModel(file, [], folder, context));
  const tokens = Array.from({ length: CROWD }, (_, seq) =>
    someTokens(PROMPT + GENERATED, vocabulary, seq),
  );
  const reference = tokens.map((t, seq) => alone(line, seq, t, 128));
  for (const [seq, rows] of reference.entries()) expect([seq, rows.length]).toEqual([seq, 8]);
  const first = reference[0] ?? [];
  for (const chunk of chunks.alone)
    for (const [i, row] of alone(line, 3, tokens[0] ?? [], chunk).entries())
      expect([chunk, i, largestDifference(row, first[i] ?? row)]).toEqual([chunk, i, 0]);
  for (const chunk of chunks.crowd)
    for (const [seq, rows] of crowd(line, tokens, chunk).entries())
      for (const [i, row] of rows.entries())
        expect([chunk, seq, i, sameBits(row, reference[seq]?.[i] ?? row)]).toEqual([
          chunk,
          seq,
          i,
          true,
        ]);
  line.free();
}

/** How many rows of a crowd differ from the same sequences alone. */
function differingRows(
  line: Line,
  tokens: readonly (readonly number[])[],
  chunk: number,
  mayLeaveOne: boolean,
): number {
  const reference = tokens.map((t, seq) => alone(line, seq, t, 128));
  return crowd(line, tokens, chunk, mayLeaveOne)
    .flatMap((rows, seq) => rows.map((row, i) => sameBits(row, reference[seq]?.[i] ?? row)))
    .filter((same) => !same).length;
}

describe('without a rule of exact mode the same comparison fails', () => {
  const tokens = Array.from({ length: CROWD }, (_, seq) =>
    someTokens(PROMPT + GENERATED, 384, seq),
  );

  it('one cache and flash attention for all (fast mode)', async () => {
    const file = await randomModelFile('llama', { weights: 'F16', layers: 4 });
    const context: ContextSettings = { ...EXACT, n_batch: 2048, mode: 'fast' };
    const line = await Line.load(await cutModel(file, [], folder, context));
    expect(differingRows(line, tokens, 64, false)).toBeGreaterThan(0);
    line.free();
  });

  it('a prompt chunk of a single row', async () => {
    const file = await randomModelFile('llama', { weights: 'F16', layers: 4 });
    const line = await Line.load(await cutModel(file, [], folder, { ...EXACT, n_batch: 2048 }));
    expect(differingRows(line, tokens, 33, true)).toBeGreaterThan(0);
    line.free();
  });
});

const SEVERAL = { alone: [2, 7, 64, 298], crowd: [33, 256] };
/** A trained model takes minutes on two shared cores for what a random one does in a second. */
const FEW = process.env['MINIKEEP_LONG'] === '1' ? SEVERAL : { alone: [60], crowd: [33] };

describe('eight sequences of 300-token prompts, alone and in a crowd, in several chunk sizes', () => {
  it('SmolLM2 Q4_1', { timeout: 30 * 60_000 }, async (ctx) => {
    const file = needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf');
    await crowdEqualsAlone(file, 49_152, FEW);
  });

  for (const [name, weights] of [
    ['llama', 'F16'],
    ['llama', 'Q8_0'],
    ['qwen3moe', 'Q4_K'],
    ['gemma3', 'mixed'],
  ] as const)
    it(`random ${name} ${weights}`, async () => {
      const layers = name === 'gemma3' ? 6 : 4;
      const file = await randomModelFile(name, { weights, layers, dimensions: WIDE });
      await crowdEqualsAlone(file, 384, SEVERAL);
    });
});
