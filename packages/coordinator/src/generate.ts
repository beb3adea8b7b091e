/** One answer: the request checked, the prompt tokenized, the pipeline's events as the operator's stream. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import {
  DeploymentState,
  FinishReason,
  OutputPolicy,
  type GenerateDone,
  type GenerateRequest,
  type GenerateResponse,
  type TokenizeRequest,
  type TokenizeResponse,
} from '@minikeep/protocol/v1';
import type { Deployment } from './deployment.ts';
import type { Pipeline } from './pipeline.ts';
import { samplingParams } from './sampling.ts';
import type { RequestSummary, SchedulerFinish } from './scheduler/types.ts';
import { emptyPrompt } from './text-engine.ts';
import { opensThinking } from './api/reasoning.ts';

const PROMPT_LENGTH_MAX = 8 * 1024 * 1024;

export async function* generate(
  deployment: Deployment,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncGenerator<GenerateResponse, void, undefined> {
  const pipeline = ready(deployment);
  const sampling = samplingParams(request.sampling);
  const { tokens, warnings, thinkingOpened } = await promptTokens(deployment, request, signal);
  const context = deployment.shape.context.nCtx;
  checkPrompt(tokens, context, deployment.vocabularySize);
  yield {
    event: {
      $case: 'started',
      value: { promptTokens: tokens.length, warnings: [...warnings], thinkingOpened },
    },
  };
  const maxTokens = request.maxTokens === 0 ? context : request.maxTokens;
  const ids: number[] = [];
  const prompt = Int32Array.from(tokens);
  for await (const event of pipeline.answer(prompt, maxTokens, sampling, signal)) {
    if (event.type === 'prefill') {
      const { doneTokens, totalTokens } = event;
      yield { event: { $case: 'prefill', value: { doneTokens, totalTokens } } };
    } else if (event.type === 'token') {
      if (event.counts) ids.push(event.id);
      // An end-of-generation token is no part of the answer; text that was held back until it is.
      if (event.counts || event.text !== '')
        yield { event: { $case: 'token', value: { id: event.id, text: event.text } } };
    } else {
      const value = doneMessage(deployment, event.finish, event.summary, ids);
      yield { event: { $case: 'done', value } };
    }
  }
}

/** Tokenizer and template of a deployment, without computing anything. */
export async function tokenizeFor(
  deployment: Deployment,
  request: TokenizeRequest,
  signal: AbortSignal,
): Promise<TokenizeResponse> {
  ready(deployment);
  if (request.prompt === undefined) throw emptyPrompt();
  return textEngineOf(deployment).tokenize(request.prompt, signal);
}

/** Throws why the deployment can't answer. */
function ready(deployment: Deployment): Pipeline {
  if (
    deployment.state === DeploymentState.DEPLOYMENT_STATE_READY &&
    deployment.pipeline !== undefined
  )
    return deployment.pipeline;
  throw (
    deployment.error ??
    new MinikeepError('deployment.not_ready', `${deployment.name} is not ready`, {
      next: 'Wait until `minikeep status` shows it ready.',
    })
  );
}

function textEngineOf(deployment: Deployment) {
  if (deployment.textEngine !== undefined) return deployment.textEngine;
  throw new MinikeepError(
    'engine.no_text',
    `${deployment.name} was deployed without its vocabulary`,
    {
      next: 'Send token ids, or deploy again with a text engine.',
      exitCode: EXIT.usage,
    },
  );
}

interface PromptTokens {
  readonly tokens: readonly number[];
  readonly warnings: readonly string[];
  readonly thinkingOpened: boolean;
}

async function promptTokens(
  deployment: Deployment,
  request: GenerateRequest,
  signal: AbortSignal,
): Promise<PromptTokens> {
  const { prompt } = request;
  if (prompt === undefined) throw emptyPrompt();
  if (prompt.$case === 'tokens')
    return { tokens: prompt.value.ids, warnings: [], thinkingOpened: false };
  if (prompt.$case === 'raw' && prompt.value.length > PROMPT_LENGTH_MAX)
    throw new MinikeepError(
      'generate.prompt_too_long',
      'the prompt has more characters than any context holds',
      {
        next: 'Shorten the prompt.',
        exitCode: EXIT.usage,
      },
    );
  const { tokens, warnings, text } = await textEngineOf(deployment).tokenize(prompt, signal);
  return { tokens, warnings, thinkingOpened: prompt.$case === 'chat' && opensThinking(text) };
}

function checkPrompt(tokens: readonly number[], context: number, vocabulary: number): void {
  if (tokens.length === 0) throw emptyPrompt();
  if (tokens.length > context)
    throw new MinikeepError(
      'generate.prompt_too_long',
      `the prompt has ${tokens.length} tokens, the context holds ${context}`,
      {
        next: 'Shorten the prompt, or use a larger --context.',
        exitCode: EXIT.usage,
        details: { prompt_tokens: tokens.length, context_tokens: context },
      },
    );
  const bad = tokens.find((id) => id < 0 || id >= vocabulary);
  if (bad === undefined) return;
  throw new MinikeepError(
    'generate.token_invalid',
    `token id ${bad} is not one of the model's ${vocabulary}`,
    { next: 'Send ids of this model.', exitCode: EXIT.usage },
  );
}

function doneMessage(
  deployment: Deployment,
  finish: SchedulerFinish,
  summary: RequestSummary,
  tokenIds: number[],
): GenerateDone {
  const perSecond = (count: number, ms: number): number => (ms > 0 ? (count * 1000) / ms : 0);
  return {
    finishReason:
      finish === 'stop' ? FinishReason.FINISH_REASON_STOP : FinishReason.FINISH_REASON_LENGTH,
    tokenIds,
    promptTokens: summary.promptTokens,
    completionTokens: summary.completionTokens,
    promptTokensPerSecond: perSecond(summary.promptTokens, summary.firstTokenMs),
    // The first token belongs to the prompt: n tokens take n - 1 steps.
    decodeTokensPerSecond: perSecond(summary.completionTokens - 1, summary.decodeMs),
    stages: deployment.shape.stages.map(({ node, layers }, i) => ({
      node: node.name,
      layers: { start: layers[0], end: layers[1] },
      computeSeconds: summary.stages[i]?.computeSeconds ?? 0,
      waitSeconds: summary.stages[i]?.waitSeconds ?? 0,
    })),
    sealed: deployment.sealed,
    violations: deployment.violations,
    firstTokenSeconds: summary.firstTokenMs / 1000,
    totalSeconds: summary.totalMs / 1000,
    queueSeconds: summary.queueMs / 1000,
    // Whoever guards the answer says how.
    outputGuard: OutputPolicy.OUTPUT_POLICY_UNSPECIFIED,
    outputFound: 0,
  };
}
