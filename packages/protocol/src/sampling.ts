/** How the next token is chosen. Plain data: it travels in an `open` operation to the last stage. */
export interface SamplingParams {
  /** 0: always the most likely token. */
  readonly temperature: number;
  /** Keep the k most likely; 0: all. */
  readonly top_k: number;
  /** Keep the smallest set whose probability reaches p; 1: all. */
  readonly top_p: number;
  /** Drop tokens below p × the most likely one's probability; 0: none. */
  readonly min_p: number;
  /** 1: off. Applied to the last `penalty_last_n` tokens, prompt included. */
  readonly repeat_penalty: number;
  readonly frequency_penalty: number;
  readonly presence_penalty: number;
  readonly penalty_last_n: number;
  /** 0 <= seed < 2^32. */
  readonly seed: number;
  /** The answer ends before the first of these; none is ever shown, not even in part. At most 16, 256 characters each. */
  readonly stop: readonly string[];
  /** Go on past end-of-generation tokens (benchmarks). */
  readonly ignore_eog: boolean;
  /** Show special tokens as text. */
  readonly special: boolean;
}

export const STOP_STRINGS_MAX = 16;
export const STOP_STRING_LENGTH_MAX = 256;

export const DEFAULT_SAMPLING: SamplingParams = {
  temperature: 0.7,
  top_k: 40,
  top_p: 0.95,
  min_p: 0.05,
  repeat_penalty: 1,
  frequency_penalty: 0,
  presence_penalty: 0,
  penalty_last_n: 64,
  seed: 0,
  stop: [],
  ignore_eog: false,
  special: false,
};
