/**
 * Prompts to token ids: the text engine on a deployment's first node renders and tokenizes, because templates are
 * programs. One that dies is started again a few times; answers under way don't need it.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { Chat, TextRequest, TextResponse } from '@minikeep/protocol/v1';
import { aborted } from './aborted.ts';
import { textEngineDied } from './node-faults.ts';
import type { NodeLink } from './node-link.ts';

/** A template may loop. Rendering takes milliseconds, also on a busy machine; tokenizing takes longer for long texts. */
const TEXT_TIMEOUT_MS = 10_000;
const TEXT_TIMEOUT_MS_PER_MIB = 4_000;
/** Between the agent's limit and ours: the agent's error says more. */
const MARGIN_MS = 2_000;
const RESTARTS_MAX = 3;
const MIB = 1024 * 1024;
/** What the node says when there is no engine (any more) that could answer. */
const GONE: readonly string[] = ['engine.gone', 'engine.no_text'];

export type Prompt =
  | { readonly $case: 'raw'; readonly value: string }
  | { readonly $case: 'chat'; readonly value: Chat };

export class TextEngine {
  readonly #node: NodeLink;
  readonly #deployment: string;
  readonly #restart: () => Promise<unknown>;
  #died: MinikeepError | undefined;
  #restarts = 0;
  #restarting: Promise<void> | undefined;

  constructor(node: NodeLink, deployment: string, restart: () => Promise<unknown>) {
    this.#node = node;
    this.#deployment = deployment;
    this.#restart = restart;
  }

  died(error: MinikeepError): void {
    this.#died = error;
  }

  /** Throws `generate.empty_prompt`, `generate.prompt_too_long`, `template.*`, `engine.*`, `node.*`. */
  async tokenize(prompt: Prompt, signal: AbortSignal): Promise<TextResponse> {
    if (isEmpty(prompt)) throw emptyPrompt();
    await this.#alive(signal);
    const restarts = this.#restarts;
    const timeoutMs = TEXT_TIMEOUT_MS + TEXT_TIMEOUT_MS_PER_MIB * Math.round(sizeOf(prompt) / MIB);
    try {
      return await this.#node.agent.text(
        { deployment: this.#deployment, work: workOf(prompt), timeoutMs },
        { signal: deadline(timeoutMs + MARGIN_MS, signal) },
      );
    } catch (thrown) {
      throw this.#explained(thrown, restarts);
    }
  }

  /** The node's error in the words of whoever asked. One that says that the engine is gone is also its end for us. */
  #explained(thrown: unknown, restarts: number): unknown {
    if (!(thrown instanceof MinikeepError)) return thrown;
    if (thrown.code === 'engine.prompt_too_long')
      return new MinikeepError('generate.prompt_too_long', thrown.message, {
        next: thrown.next,
        exitCode: EXIT.usage,
      });
    if (!GONE.includes(thrown.code)) return thrown;
    const died = textEngineDied(this.#node.name, thrown.message);
    // Unless a new one has taken its place meanwhile.
    if (restarts === this.#restarts) this.died(died);
    return died;
  }

  /** Waits for one that is being started again; who asked may leave, others go on waiting. */
  async #alive(signal: AbortSignal): Promise<void> {
    if (this.#died === undefined) return;
    if (this.#restarting === undefined) {
      if (this.#restarts >= RESTARTS_MAX) throw this.#died;
      this.#restarts++;
      this.#restarting = this.#restart()
        .then(() => {
          this.#died = undefined;
        })
        .finally(() => {
          this.#restarting = undefined;
        });
    }
    await Promise.race([this.#restarting, aborted(signal)]);
  }
}

function workOf(prompt: Prompt): NonNullable<TextRequest['work']> {
  if (prompt.$case === 'raw')
    return {
      $case: 'tokenize',
      value: { text: prompt.value, addSpecial: true, parseSpecial: true },
    };
  return {
    $case: 'chat',
    value: {
      messages: prompt.value.messages,
      addGenerationPrompt: true,
      nowSeconds: Date.now() / 1000,
      templateArgumentsJson: prompt.value.templateArgumentsJson,
    },
  };
}

/** In characters; only the order of magnitude matters. */
function sizeOf(prompt: Prompt): number {
  if (prompt.$case === 'raw') return prompt.value.length;
  const { messages, templateArgumentsJson } = prompt.value;
  return messages.reduce(
    (sum, m) => sum + m.content.length + m.extraJson.length,
    templateArgumentsJson.length,
  );
}

/** Nothing that the model could answer: no text at all, or a conversation without a word in it. */
function isEmpty(prompt: Prompt): boolean {
  if (prompt.$case === 'raw') return prompt.value === '';
  return prompt.value.messages.every((m) => m.content.trim() === '' && m.extraJson === '');
}

export function emptyPrompt(): MinikeepError {
  return new MinikeepError('generate.empty_prompt', 'the prompt is empty', {
    next: 'Give a prompt of at least one character.',
    exitCode: EXIT.usage,
  });
}
