/**
 * A chat completion as programs ask for it (OpenAI's form), checked, as the pipeline wants it. A field that would change
 * the answer and is not built is refused by name; one that changes nothing (`user`, `metadata`, `store`) is ignored.
 */
import { STOP_STRINGS_MAX, STOP_STRING_LENGTH_MAX } from '@minikeep/protocol';
import type { GenerateRequest } from '@minikeep/protocol/v1';
import { z } from 'zod';
import { ApiError } from './errors.ts';

const MESSAGES_MAX = 2_048;
const PARTS_MAX = 256;

const TEXT_PART = z.object({ type: z.literal('text'), text: z.string() });
const CONTENT = z.union([z.string(), z.array(TEXT_PART).max(PARTS_MAX)]);
const MESSAGE = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: CONTENT.nullish(),
  reasoning_content: z.string().nullish(),
});
const STOP = z.string().min(1).max(STOP_STRING_LENGTH_MAX);

/** Only with these values: anything else would change what comes back. */
const NOT_BUILT = {
  n: z.literal(1).nullish(),
  logprobs: z.literal(false).nullish(),
  logit_bias: z.record(z.string(), z.never()).nullish(),
  tools: z.array(z.never()).nullish(),
  functions: z.array(z.never()).nullish(),
  response_format: z.object({ type: z.literal('text') }).nullish(),
  audio: z.null().optional(),
} as const;

const REQUEST = z.object({
  model: z.string().min(1).max(200),
  messages: z.array(MESSAGE).min(1).max(MESSAGES_MAX),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  max_tokens: z
    .number()
    .int()
    .min(1)
    .max(2 ** 31)
    .nullish(),
  max_completion_tokens: z
    .number()
    .int()
    .min(1)
    .max(2 ** 31)
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.number().int().min(0).max(1_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  seed: z.number().int().nullish(),
  stop: z.union([STOP, z.array(STOP).max(STOP_STRINGS_MAX)]).nullish(),
  ...NOT_BUILT,
});

export interface ChatRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly generate: Omit<GenerateRequest, 'deployment'>;
}

/** Throws an ApiError that names the field. */
export function chatRequest(body: unknown): ChatRequest {
  const parsed = REQUEST.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const param = issue?.path.join('.') ?? '';
    const known = param.split('.')[0] ?? '';
    if (known in NOT_BUILT)
      throw new ApiError(
        400,
        'unsupported_parameter',
        `${known} is not supported by minikeep with that value`,
        param,
      );
    throw new ApiError(
      400,
      'invalid_value',
      `${param === '' ? 'the request' : param}: ${issue?.message ?? 'not valid'}`,
      param,
    );
  }
  const asked = parsed.data;
  const stop = asked.stop ?? [];
  return {
    model: asked.model,
    stream: asked.stream === true,
    includeUsage: asked.stream_options?.include_usage === true,
    generate: {
      prompt: {
        $case: 'chat',
        value: {
          messages: asked.messages.map(({ role, content }) => ({
            // Templates know `system`; `developer` is its newer name.
            role: role === 'developer' ? 'system' : role,
            content: textOf(content),
            extraJson: '',
          })),
          templateArgumentsJson: '',
        },
      },
      sampling: {
        temperature: asked.temperature ?? undefined,
        topP: asked.top_p ?? undefined,
        topK: asked.top_k ?? undefined,
        minP: asked.min_p ?? undefined,
        frequencyPenalty: asked.frequency_penalty ?? undefined,
        presencePenalty: asked.presence_penalty ?? undefined,
        // Any whole number is a seed there; ours have 32 bits.
        seed: asked.seed === null || asked.seed === undefined ? undefined : asked.seed >>> 0,
        stop: typeof stop === 'string' ? [stop] : stop,
      },
      maxTokens: asked.max_completion_tokens ?? asked.max_tokens ?? 0,
    },
  };
}

function textOf(content: z.infer<typeof CONTENT> | null | undefined): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => part.text).join('');
}
