/** What a question to a throw-away cluster and one to a cluster that stays have in common. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { randomInt } from 'node:crypto';
import type { CommandContext } from '../command-context.ts';
import { SEED_MAX } from '../defaults.ts';
import type { Progress } from '../progress.ts';
import { answerOf } from './answer.ts';
import { doneDocument, type Prompt, type SamplingFlags } from './generate.ts';
import { warnOfFinds, warnOfViolations, type Ready, type RunFlags } from './ready.ts';

/** Without a PROMPT there must be a person to chat with. */
export function checkChat({ terminal }: CommandContext, flags: RunFlags): void {
  const problem = !terminal.interactive
    ? 'there is no PROMPT, and no terminal to chat on'
    : flags.json === true
      ? 'a chat has no --json form'
      : flags.raw === true
        ? 'a chat needs the chat template: --raw goes with a PROMPT'
        : undefined;
  if (problem !== undefined)
    throw new MinikeepError('usage.no_prompt', problem, {
      next: 'Give a PROMPT, or - to read it from stdin.',
      exitCode: EXIT.usage,
    });
}

export function promptOf(text: string, flags: RunFlags): Prompt {
  if (flags.raw === true) return { raw: text };
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return { messages: [...system, { role: 'user', content: text }] };
}

/** A model as small as the embedded one is right only where it is sure: it says the most likely token unless told otherwise. */
export function samplingOf(flags: RunFlags, embedded: boolean): SamplingFlags {
  const { topK, topP, minP, repeatPenalty } = flags;
  const temperature = flags.temperature ?? (embedded ? 0 : undefined);
  return {
    seed: flags.seed ?? randomInt(SEED_MAX + 1),
    stop: flags.stop,
    ...(temperature === undefined ? {} : { temperature }),
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
    ...(repeatPenalty === undefined ? {} : { repeatPenalty }),
  };
}

export async function answerOnce(
  ready: Ready,
  prompt: Prompt,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { sampling, flags } = ready;
  const { terminal } = ready.context;
  const json = flags.json === true;
  const { text, done } = await terminal.allWordsOf(
    answerOf(ready, {
      prompt,
      progress,
      signal,
      async onToken(token) {
        if (json) await terminal.json({ type: 'token', id: token.id, text: token.text });
        else await terminal.words(token.text);
      },
    }),
  );
  if (json) await terminal.json(doneDocument(done, sampling.seed));
  else if (!text.endsWith('\n')) await terminal.line();
  if (flags.verbose === true)
    terminal.note(
      `${done.promptTokens} tokens of prompt at ${done.promptTokensPerSecond.toFixed(1)}/s, ${done.completionTokens} of answer at ${done.decodeTokensPerSecond.toFixed(1)}/s, seed ${sampling.seed}`,
    );
  warnOfFinds(ready.context, done);
  if (done.violations > 0) await warnOfViolations(ready, signal);
}
