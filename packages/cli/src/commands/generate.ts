/** One answer: streams it to the terminal as it is computed, and returns what it took. */
import { MinikeepError } from '@minikeep/protocol';
import { FinishReason, type GenerateDone } from '@minikeep/protocol/v1';
import { sealName } from '@minikeep/protocol/rpc';
import type { OutputPolicyName } from '../output-policy-names.ts';
import { outputPolicyMessage, outputPolicyName } from '../output-policy.ts';
import type { Session } from '../session.ts';

export type Prompt =
  | { readonly raw: string }
  | { readonly messages: readonly { readonly role: string; readonly content: string }[] };

export interface SamplingFlags {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
  readonly seed: number;
  readonly stop: readonly string[];
}

export interface Answer {
  readonly text: string;
  readonly done: GenerateDone;
}

export interface GenerateOptions {
  readonly deployment: string;
  readonly prompt: Prompt;
  readonly sampling: SamplingFlags;
  /** 0: until the context is full. */
  readonly maxTokens: number;
  readonly signal: AbortSignal;
  /** For this answer; else the cluster's. */
  readonly outputGuard?: OutputPolicyName;
  onToken(token: { readonly id: number; readonly text: string }): Promise<void>;
  onPrefill?(fraction: number): void;
  onWarning?(text: string): void;
}

export async function generate(session: Session, options: GenerateOptions): Promise<Answer> {
  const { prompt, sampling } = options;
  const request = {
    deployment: options.deployment,
    maxTokens: options.maxTokens,
    outputGuard: outputPolicyMessage(options.outputGuard),
    sampling: { ...sampling, stop: [...sampling.stop] },
    prompt:
      'raw' in prompt
        ? { $case: 'raw' as const, value: prompt.raw }
        : { $case: 'chat' as const, value: { messages: [...prompt.messages] } },
  };
  let text = '';
  for await (const { event } of session.operator.generate(request, { signal: options.signal }))
    switch (event?.$case) {
      case 'started':
        for (const warning of event.value.warnings) options.onWarning?.(warning);
        break;
      case 'prefill':
        options.onPrefill?.(event.value.doneTokens / Math.max(1, event.value.totalTokens));
        break;
      case 'token':
        text += event.value.text;
        await options.onToken(event.value);
        break;
      case 'done':
        return { text, done: event.value };
      default:
    }
  throw new MinikeepError('generate.ended', 'the answer ended before it was done', {
    next: 'Run the command again with --verbose.',
  });
}

const FINISH: ReadonlyMap<FinishReason, string> = new Map([
  [FinishReason.FINISH_REASON_STOP, 'stop'],
  [FinishReason.FINISH_REASON_LENGTH, 'length'],
  [FinishReason.FINISH_REASON_CONTENT_FILTER, 'content_filter'],
]);

/** The last line of `run --json`. */
export function doneDocument(done: GenerateDone, seed: number): Record<string, unknown> {
  return {
    type: 'done',
    finish_reason: FINISH.get(done.finishReason) ?? 'unknown',
    token_ids: done.tokenIds,
    prompt_tokens: done.promptTokens,
    completion_tokens: done.completionTokens,
    prompt_tokens_per_second: done.promptTokensPerSecond,
    decode_tokens_per_second: done.decodeTokensPerSecond,
    first_token_seconds: done.firstTokenSeconds,
    total_seconds: done.totalSeconds,
    seed,
    stages: done.stages.map((stage) => ({
      node: stage.node,
      layers: [stage.layers?.start ?? 0, stage.layers?.end ?? 0],
      compute_seconds: stage.computeSeconds,
      wait_seconds: stage.waitSeconds,
    })),
    sealed: sealName(done.sealed),
    violations: done.violations,
    output_guard: outputPolicyName(done.outputGuard),
    output_found: done.outputFound,
  };
}
