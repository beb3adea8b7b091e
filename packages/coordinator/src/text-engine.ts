/**
 * Prompts to token ids: the text engine on a deployment's first node renders and tokenizes, because templates are
 * programs. One that dies is started again a few times; answers under way don't need it.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { Chat, TextRequest, TextResponse } from '@minikeep/protocol/v1';
import type { NodeLink } from './node-link.ts';

/** A template may loop; a long document takes a second. */
const TEXT_TIMEOUT_MS = 30_000;
/** Between the agent's limit and ours: the agent's error says more. */
const MARGIN_MS = 2_000;
const RESTARTS_MAX = 3;

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

  /** Throws `generate.empty_prompt`, `template.*`, `engine.*`, `node.*`. */
  async tokenize(prompt: Prompt, signal: AbortSignal): Promise<TextResponse> {
    if (isEmpty(prompt)) throw emptyPrompt();
    await this.#alive();
    return this.#node.agent.text(
      { deployment: this.#deployment, work: workOf(prompt), timeoutMs: TEXT_TIMEOUT_MS },
      { signal: deadline(TEXT_TIMEOUT_MS + MARGIN_MS, signal) },
    );
  }

  async #alive(): Promise<void> {
    if (this.#died === undefined) return;
    if (this.#restarting === undefined) {
      if (this.#restarts >= RESTARTS_MAX) throw this.#died;
      this.#restarts++;
      this.#restarting = this.#restart().then(() => {
        this.#died = undefined;
      });
    }
    try {
      await this.#restarting;
    } finally {
      this.#restarting = undefined;
    }
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
