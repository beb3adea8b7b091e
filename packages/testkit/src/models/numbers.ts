/** Reproducible noise: the same seed and tensor name give the same weights, in whatever order tensors are made. */

/** 32-bit FNV-1a of a name, mixed with a seed. */
export function seedOf(name: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** A generator of 32-bit states (xorshift32), and of values made from them. */
export class Noise {
  #state: number;

  constructor(seed: number) {
    // Zero is the one state that xorshift never leaves; the first states of similar seeds are similar.
    this.#state = seed >>> 0 || 0x9e3779b9;
    for (let i = 0; i < 8; i++) this.next();
  }

  /** 0 <= n < 2^32. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** Fills with values around `mean` (triangular distribution, standard deviation `deviation`). */
  writeTo(target: Float32Array, mean: number, deviation: number): void {
    const factor = (deviation * Math.sqrt(6)) / 2 ** 32;
    const offset = mean - deviation * Math.sqrt(6);
    for (let i = 0; i < target.length; i++)
      target[i] = offset + (this.next() + this.next()) * factor;
  }
}
