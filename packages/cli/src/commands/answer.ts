/** One answer of a model that is up, with its progress and warnings: what a single question and a chat share. */
import type { Progress } from '../progress.ts';
import { generate, type Answer, type Prompt } from './generate.ts';
import type { Ready } from './ready.ts';

export interface AnswerOptions {
  readonly prompt: Prompt;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  onToken(token: { readonly id: number; readonly text: string }): Promise<void>;
}

/** Throws the coordinator's error, or the signal's reason. */
export async function answerOf(ready: Ready, options: AnswerOptions): Promise<Answer> {
  const { context, session, deployed, sampling, flags } = ready;
  const { prompt, progress, signal } = options;
  try {
    return await generate(session, {
      deployment: deployed.name,
      prompt,
      sampling,
      maxTokens: flags.maxTokens ?? 0,
      ...(flags.outputGuard === undefined ? {} : { outputGuard: flags.outputGuard }),
      signal,
      onPrefill: (fraction) => progress.show('reading the prompt', fraction),
      onWarning: (warning) => context.terminal.note(`warning: ${warning}`),
      async onToken(token) {
        progress.clear();
        await options.onToken(token);
      },
    });
  } finally {
    progress.clear();
  }
}
