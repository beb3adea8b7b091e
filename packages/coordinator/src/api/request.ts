/**
 * A chat completion as programs ask for it (OpenAI's form), checked, as the pipeline wants it. A field that would change
 * the answer and is not built is refused by name; one that changes nothing is ignored (`fields.ts` has the lists).
 */
import { STOP_STRINGS_MAX, STOP_STRING_LENGTH_MAX } from '@minikeep/protocol';
import { OutputPolicy, type GenerateRequest } from '@minikeep/protocol/v1';
import { z } from 'zod';
import { ApiError } from './errors.ts';
import { IGNORED, NOT_BUILT } from './fields.ts';

const MESSAGES_MAX = 2_048;
const PARTS_MAX = 256;
/** Of a field's name that is shown again. */
const PARAM_LENGTH_MAX = 100;

const PART = z.object({ type: z.string(), text: z.string().optional() });
const CONTENT = z.union([z.string(), z.array(PART).max(PARTS_MAX)], {
  error: `a string, or a list of at most ${PARTS_MAX} parts`,
});
const MESSAGE = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: CONTENT.nullish(),
  /** Answers come back as the caller got them: with these, empty. */
  tool_calls: z.array(z.unknown()).nullish(),
  function_call: z.unknown().optional(),
});
type Message = z.infer<typeof MESSAGE>;
const STOP = z.string().min(1).max(STOP_STRING_LENGTH_MAX);

const REQUEST = z.strictObject({
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
  stop: z
    .union([STOP, z.array(STOP).max(STOP_STRINGS_MAX)], {
      error: `a string or at most ${STOP_STRINGS_MAX}, each of 1 to ${STOP_STRING_LENGTH_MAX} characters`,
    })
    .nullish(),
  ...NOT_BUILT,
  ...IGNORED,
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
  if (!parsed.success) throw refusal(parsed.error);
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
          messages: asked.messages.map((message, i) => ({
            // Templates know `system`; `developer` is its newer name.
            role: message.role === 'developer' ? 'system' : message.role,
            content: textOf(message, `messages.${i}`),
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
      // The cluster's: who asks can't turn it off.
      outputGuard: OutputPolicy.OUTPUT_POLICY_UNSPECIFIED,
    },
  };
}

/** Throws if the message has anything but text. */
function textOf(message: Message, at: string): string {
  const { role, content, tool_calls: calls, function_call: call } = message;
  if (role === 'tool' || role === 'function')
    throw notBuilt(`${at}.role`, 'tools are not supported, so there are no answers of tools');
  if ((calls ?? []).length > 0 || (call ?? null) !== null)
    throw notBuilt(`${at}.tool_calls`, 'tools are not supported, so there are no calls of tools');
  if (content === null || content === undefined) {
    if (role === 'assistant') return '';
    throw new ApiError(400, 'invalid_value', `${at}.content: there is none`, `${at}.content`);
  }
  const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  return parts
    .map(({ type, text }, i) => {
      const part = `${at}.content.${i}`;
      if (type !== 'text')
        throw notBuilt(`${part}.type`, `a part has to be text, not "${type.slice(0, 40)}"`);
      if (text === undefined)
        throw new ApiError(400, 'invalid_value', `${part}.text: there is none`, `${part}.text`);
      // Half a character of UTF-16 has no form in UTF-8.
      return text.toWellFormed();
    })
    .join('');
}

const notBuilt = (param: string, why: string): ApiError =>
  new ApiError(400, 'unsupported_parameter', `${param}: ${why}`, param);

/** The first thing that is wrong, by name. */
function refusal({ issues: [issue] }: z.ZodError): ApiError {
  if (issue?.code === 'unrecognized_keys') {
    const param = [...issue.path, issue.keys[0] ?? ''].join('.').slice(0, PARAM_LENGTH_MAX);
    return new ApiError(
      400,
      'unknown_parameter',
      `${param}: minikeep does not know this field`,
      param,
    );
  }
  const param = (issue?.path ?? []).join('.');
  const field = param.split('.')[0] ?? '';
  if (Object.hasOwn(NOT_BUILT, field)) return notBuilt(param, 'not supported with that value');
  const where = param === '' ? 'the request' : param;
  return new ApiError(400, 'invalid_value', `${where}: ${issue?.message ?? 'not valid'}`, param);
}
