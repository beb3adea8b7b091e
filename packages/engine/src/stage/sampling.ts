/**
 * One sequence's sampler: llama.cpp's chain, in llama.cpp's usual order (penalties, top-k, top-p, min-p, temperature,
 * draw). Each draw is seeded by the sequence's seed and the token's position, so that an answer depends on nothing
 * else: not on the crowd, not on a recovery that computes it again.
 */
import type { SamplingParams } from '@minikeep/protocol';
import type { Address } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';

export interface HistoryEntry {
  readonly token: number;
  readonly position: number;
}

/** llama.cpp takes this seed as "any". */
const SEED_ANY = 0xffff_ffff;

export class Sampler {
  readonly #binding: Binding;
  readonly #params: SamplingParams;
  readonly #chain: Address;
  /** Index of the drawing sampler in the chain; -1 when the most likely token is always taken. */
  readonly #drawAt: number;
  /** Tokens accepted so far with their positions, in order. */
  #history: HistoryEntry[] = [];
  /** A token that was just sampled: the chain has accepted it, and it comes back as the next row. */
  #expected: HistoryEntry | undefined;

  constructor(binding: Binding, params: SamplingParams, vocabularySize: number) {
    this.#binding = binding;
    this.#params = params;
    this.#chain = binding.chainNew({ no_perf: true });
    const samplers: Address[] = [];
    const penalised =
      params.repeat_penalty !== 1 ||
      params.frequency_penalty !== 0 ||
      params.presence_penalty !== 0;
    if (penalised && params.penalty_last_n > 0)
      samplers.push(
        binding.penalties(
          vocabularySize,
          params.penalty_last_n,
          params.repeat_penalty,
          params.frequency_penalty,
          params.presence_penalty,
        ),
      );
    if (params.temperature <= 0) samplers.push(binding.greedy());
    else {
      if (params.top_k > 0) samplers.push(binding.topK(params.top_k));
      if (params.top_p < 1) samplers.push(binding.topP(params.top_p, 1));
      if (params.min_p > 0) samplers.push(binding.minP(params.min_p, 1));
      samplers.push(binding.temperature(params.temperature), binding.dist(0));
    }
    for (const sampler of samplers) binding.chainAdd(this.#chain, sampler);
    this.#drawAt = params.temperature <= 0 ? -1 : samplers.length - 1;
  }

  /** Tokens of a span that starts at `position`, in order. */
  accept(tokens: Int32Array, position: number): void {
    for (const [i, token] of tokens.entries()) {
      const expected = this.#expected;
      this.#expected = undefined;
      if (expected?.position === position + i) {
        if (expected.token === token) continue;
        // Another token than the sampled one was chosen outside: the chain has to forget ours.
        this.remove(expected.position, Number.POSITIVE_INFINITY);
      }
      this.#history.push({ token, position: position + i });
      this.#binding.samplerAccept(this.#chain, token);
    }
  }

  /** Samples the token for `position` from the logits of a row of the last decode. */
  sample(context: Address, row: number, position: number): number {
    if (this.#drawAt >= 0) {
      const b = this.#binding;
      b.samplerFree(b.chainRemove(this.#chain, this.#drawAt));
      b.chainAdd(this.#chain, b.dist(drawSeed(this.#params.seed, position)));
    }
    const token = this.#binding.samplerSample(this.#chain, context, row);
    this.#history.push({ token, position });
    this.#expected = { token, position };
    return token;
  }

  /** The accepted tokens at p0 <= position < p1. */
  history(p0: number, p1: number): readonly HistoryEntry[] {
    return this.#history.filter(({ position }) => position >= p0 && position < p1);
  }

  /** Forgets the tokens at p0 <= position < p1. */
  remove(p0: number, p1: number): void {
    this.restore(this.#history.filter(({ position }) => position < p0 || position >= p1));
  }

  /** Starts from a history that was computed before (a copied sequence). */
  restore(history: readonly HistoryEntry[]): void {
    this.#history = [...history];
    this.#expected = undefined;
    this.#binding.samplerReset(this.#chain);
    // slice(-0) would be all of it.
    const lastN = this.#params.penalty_last_n;
    for (const { token } of lastN > 0 ? this.#history.slice(-lastN) : [])
      this.#binding.samplerAccept(this.#chain, token);
  }

  free(): void {
    this.#binding.samplerFree(this.#chain);
  }
}

/** Mixes seed and position into 32 bits (the finaliser of MurmurHash3, public domain, applied to both in turn). */
export function drawSeed(seed: number, position: number): number {
  const mixed = finalise(finalise(seed >>> 0) ^ Math.imul(position + 1, 0x9e37_79b1)) >>> 0;
  return mixed === SEED_ANY ? SEED_ANY - 1 : mixed;
}

function finalise(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
