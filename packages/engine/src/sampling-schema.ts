/** Checks the sampling parameters that travel as JSON inside an `open` operation. */
import {
  MinikeepError,
  STOP_STRINGS_MAX,
  STOP_STRING_LENGTH_MAX,
  type SamplingParams,
} from '@minikeep/protocol';
import { z } from 'zod';

const PENALTY_MAX = 100;
const PENALTY_LAST_N_MAX = 65_536;

const wellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text);

const schema = z.strictObject({
  temperature: z.number().min(0).max(100),
  top_k: z.int().min(0).max(1_000_000),
  top_p: z.number().gt(0).max(1),
  min_p: z.number().min(0).max(1),
  repeat_penalty: z.number().gt(0).max(PENALTY_MAX),
  frequency_penalty: z.number().min(-PENALTY_MAX).max(PENALTY_MAX),
  presence_penalty: z.number().min(-PENALTY_MAX).max(PENALTY_MAX),
  penalty_last_n: z.int().min(0).max(PENALTY_LAST_N_MAX),
  seed: z.int().min(0).max(0xffff_ffff),
  stop: z
    .array(z.string().min(1).max(STOP_STRING_LENGTH_MAX).refine(wellFormed, 'broken characters'))
    .max(STOP_STRINGS_MAX),
  ignore_eog: z.boolean(),
  special: z.boolean(),
});

/** Throws `engine.sampling` with the field that is wrong. */
export function parseSampling(json: Uint8Array): SamplingParams {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    throw wrong('they are not JSON', cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw wrong(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong'}`);
}

function wrong(what: string, cause?: unknown): MinikeepError {
  return new MinikeepError('engine.sampling', `the sampling parameters are not valid: ${what}`, {
    next: 'Change the named setting; `minikeep run --help` lists what is allowed.',
    ...(cause === undefined ? {} : { cause }),
  });
}
