/**
 * Long runs that look encoded: base64, hexadecimal, percent signs. They go nowhere by themselves (an address that holds
 * one is broken anyway), so they are told and left as they are; but nobody who reads an answer can say what is in them.
 * Digests, keys of usual size, and sequences of DNA or protein (few letters, or capitals alone) are none.
 */
const BASE64_LENGTH_MIN = 200;
const HEX_LENGTH_MIN = 160;
const PERCENT_MIN = 24;
const KINDS_OF_HEX_MIN = 8;

/** What a find is told to have at least: it is told when it becomes one. */
export const ENCODED_LENGTH_MIN = Math.min(BASE64_LENGTH_MIN, HEX_LENGTH_MIN, 3 * PERCENT_MIN);

export class EncodedRuns {
  #length = 0;
  #hex = true;
  #lower = false;
  #upper = false;
  #digit = false;
  #seen = 0;
  #percent = 0;
  #sincePercent = 0;
  #told = false;

  /** The index behind each character with which a run became too long. */
  feed(text: string): number[] {
    const ends: number[] = [];
    for (let i = 0; i < text.length; i++) if (this.#one(text.charCodeAt(i))) ends.push(i + 1);
    return ends;
  }

  #one(code: number): boolean {
    if (code === 0x25) {
      if (this.#sincePercent !== 2) this.#percent = 0;
      this.#percent += 1;
      this.#sincePercent = 0;
      this.#end();
      return this.#percent === PERCENT_MIN;
    }
    this.#sincePercent += 1;
    const digit = code >= 0x30 && code <= 0x39;
    const upper = code >= 0x41 && code <= 0x5a;
    const lower = code >= 0x61 && code <= 0x7a;
    // + / - _ =
    const mark = code === 0x2b || code === 0x2f || code === 0x2d || code === 0x5f || code === 0x3d;
    if (!digit && !upper && !lower && !mark) {
      this.#end();
      return false;
    }
    this.#length += 1;
    this.#digit ||= digit;
    this.#upper ||= upper;
    this.#lower ||= lower;
    const hex = digit || (upper && code <= 0x46) || (lower && code <= 0x66);
    this.#hex &&= hex;
    if (hex) this.#seen |= 1 << (digit ? code - 0x30 : (code & 0xf) + 9);
    if (this.#told) return false;
    this.#told =
      this.#hex && this.#length >= HEX_LENGTH_MIN
        ? this.#digit && bits(this.#seen) >= KINDS_OF_HEX_MIN
        : this.#length >= BASE64_LENGTH_MIN && this.#digit && this.#upper && this.#lower;
    return this.#told;
  }

  #end(): void {
    this.#length = 0;
    this.#hex = true;
    this.#lower = this.#upper = this.#digit = false;
    this.#seen = 0;
    this.#told = false;
  }
}

function bits(value: number): number {
  let count = 0;
  for (let rest = value; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
