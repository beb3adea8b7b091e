/**
 * What becomes of each field of a chat completion that is not built: three lists, so that nothing is dropped in silence.
 * A field on none of the lists is refused too: whoever sends it expects something of it.
 */
import { z } from 'zod';

/** Would change the answer. Taken only with the value that asks for nothing. */
export const NOT_BUILT = {
  n: z.literal(1).nullish(),
  logprobs: z.literal(false).nullish(),
  top_logprobs: z.literal(0).nullish(),
  logit_bias: z.record(z.string(), z.never()).nullish(),
  tools: z.array(z.never()).nullish(),
  tool_choice: z.enum(['none', 'auto']).nullish(),
  functions: z.array(z.never()).nullish(),
  function_call: z.enum(['none', 'auto']).nullish(),
  response_format: z.object({ type: z.literal('text') }).nullish(),
  modalities: z.array(z.literal('text')).max(1).nullish(),
  audio: z.null().optional(),
  prediction: z.null().optional(),
  reasoning_effort: z.null().optional(),
  verbosity: z.null().optional(),
  web_search_options: z.null().optional(),
} as const;

/** Says something about the caller or the service, nothing about the answer: ignored, whatever it is. */
export const IGNORED = {
  user: z.unknown().optional(),
  metadata: z.unknown().optional(),
  store: z.unknown().optional(),
  service_tier: z.unknown().optional(),
  safety_identifier: z.unknown().optional(),
  prompt_cache_key: z.unknown().optional(),
  prompt_cache_retention: z.unknown().optional(),
  parallel_tool_calls: z.unknown().optional(),
} as const;
