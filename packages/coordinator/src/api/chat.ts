/** POST /v1/chat/completions: an answer in one piece, or as it is computed (server-sent events). */
import { randomBytes } from 'node:crypto';
import { FinishReason, type GenerateDone, type GenerateResponse } from '@minikeep/protocol/v1';
import type { SSEStreamingApi } from 'hono/streaming';
import { asApiError, errorBody } from './errors.ts';
import { Stalled, type Writes } from './patient-write.ts';
import { ReasoningSplitter, type Piece } from './reasoning.ts';
import type { ChatRequest } from './request.ts';

type Answer = AsyncIterable<GenerateResponse>;

const FINISH: ReadonlyMap<FinishReason, string> = new Map([
  [FinishReason.FINISH_REASON_STOP, 'stop'],
  [FinishReason.FINISH_REASON_LENGTH, 'length'],
  [FinishReason.FINISH_REASON_CONTENT_FILTER, 'content_filter'],
]);

interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

const head = (model: string): Head => ({
  id: `chatcmpl-${randomBytes(12).toString('hex')}`,
  created: Math.floor(Date.now() / 1000),
  model,
});

const usage = ({ promptTokens, completionTokens }: GenerateDone) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

const finishReason = (done: GenerateDone): string => FINISH.get(done.finishReason) ?? 'stop';

/** The whole answer. Throws the pipeline's error. */
export async function completion({ model }: ChatRequest, answer: Answer): Promise<object> {
  let splitter = new ReasoningSplitter(false);
  const text = { reasoning: '', content: '' };
  const add = (pieces: readonly Piece[]): void => {
    for (const piece of pieces) text[piece.kind] += piece.text;
  };
  let done: GenerateDone | undefined;
  for await (const { event } of answer) {
    if (event?.$case === 'started') splitter = new ReasoningSplitter(event.value.thinkingOpened);
    if (event?.$case === 'token') add(splitter.push(event.value.text));
    if (event?.$case === 'done') done = event.value;
  }
  add(splitter.end());
  if (done === undefined) throw new Error('an answer without an end');
  return {
    ...head(model),
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: text.content,
          ...(text.reasoning === '' ? {} : { reasoning_content: text.reasoning.trim() }),
        },
        logprobs: null,
        finish_reason: finishReason(done),
      },
    ],
    usage: usage(done),
  };
}

/**
 * The answer as it is computed. `first` has been read already: what is wrong with the request was found by then and was
 * answered with a status. What fails later comes as an event, for the status is sent.
 */
export async function streamCompletion(
  stream: SSEStreamingApi,
  { model, includeUsage }: ChatRequest,
  answer: Answer,
  writes: Writes,
): Promise<void> {
  const common = { ...head(model), object: 'chat.completion.chunk' };
  const send = (document: object): Promise<void> =>
    writes(stream.writeSSE({ data: JSON.stringify({ ...common, ...document }) }));
  const choice = (delta: object, reason: string | null = null) => ({
    choices: [{ index: 0, delta, logprobs: null, finish_reason: reason }],
    ...(includeUsage ? { usage: null } : {}),
  });
  const sendPieces = async (pieces: readonly Piece[]): Promise<void> => {
    for (const { kind, text } of pieces)
      await send(choice(kind === 'content' ? { content: text } : { reasoning_content: text }));
  };
  let splitter = new ReasoningSplitter(false);
  try {
    await send(choice({ role: 'assistant', content: '' }));
    for await (const { event } of answer) {
      if (event?.$case === 'started') splitter = new ReasoningSplitter(event.value.thinkingOpened);
      if (event?.$case === 'token') await sendPieces(splitter.push(event.value.text));
      if (event?.$case !== 'done') continue;
      await sendPieces(splitter.end());
      await send(choice({}, finishReason(event.value)));
      if (includeUsage) await send({ choices: [], usage: usage(event.value) });
    }
  } catch (thrown) {
    if (thrown instanceof Stalled) throw thrown;
    await writes(stream.writeSSE({ data: JSON.stringify(errorBody(asApiError(thrown))) }));
  }
  await writes(stream.writeSSE({ data: '[DONE]' }));
}
