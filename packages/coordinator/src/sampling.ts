/** Sampling parameters from outside: defaults filled in, ranges checked. */
import {
  DEFAULT_SAMPLING,
  EXIT,
  MinikeepError,
  STOP_STRINGS_MAX,
  STOP_STRING_LENGTH_MAX,
  type SamplingParams,
} from '@minikeep/protocol';
import type { Sampling } from '@minikeep/protocol/v1';
import { z } from 'zod';

const Params = z.strictObject({
  temperature: z.number().min(0).max(100),
  top_k: z.number().int().min(0).max(1_000_000),
  top_p: z.number().gt(0).max(1),
  min_p: z.number().min(0).max(1),
  repeat_penalty: z.number().gt(0).max(10),
  frequency_penalty: z.number().min(-2).max(2),
  presence_penalty: z.number().min(-2).max(2),
  penalty_last_n: z.number().int().min(0).max(4096),
  seed: z.number().int().min(0).max(0xffffffff),
  stop: z.array(z.string().min(1).max(STOP_STRING_LENGTH_MAX)).max(STOP_STRINGS_MAX),
  ignore_eog: z.boolean(),
  special: z.boolean(),
});

/** Our name → the contract's. */
const FIELDS = {
  temperature: 'temperature',
  top_k: 'topK',
  top_p: 'topP',
  min_p: 'minP',
  repeat_penalty: 'repeatPenalty',
  frequency_penalty: 'frequencyPenalty',
  presence_penalty: 'presencePenalty',
  penalty_last_n: 'penaltyLastN',
  seed: 'seed',
  stop: 'stop',
  ignore_eog: 'ignoreEog',
  special: 'special',
} as const satisfies Record<keyof SamplingParams, keyof Sampling>;

/** Throws `generate.sampling_invalid`, naming the parameter. */
export function samplingParams(message: Sampling | undefined): SamplingParams {
  const parsed = Params.safeParse(
    Object.fromEntries(
      Object.entries(FIELDS).map(([name, field]) => [
        name,
        message?.[field] ?? DEFAULT_SAMPLING[name as keyof typeof FIELDS],
      ]),
    ),
  );
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const parameter = issue?.path.join('.') ?? '';
  throw new MinikeepError(
    'generate.sampling_invalid',
    `${parameter}: ${issue?.message ?? 'invalid'}`,
    {
      next: `Correct ${parameter === '' ? 'the sampling parameters' : parameter}.`,
      exitCode: EXIT.usage,
      details: { parameter },
    },
  );
}
