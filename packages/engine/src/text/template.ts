/**
 * Renders a model's chat template. A template is a program by whoever made the file: it runs only inside the sandbox,
 * with limits on its size, its loops and its output; the agent ends an engine that does not answer in time.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { MinikeepError } from '@minikeep/protocol';
import type { ChatMessage } from '../messages.ts';
import { strftime } from './strftime.ts';
import { NEXT } from '../next-steps.ts';

export const TEMPLATE_LENGTH_MAX = 512 * 1024;
export const PROMPT_LENGTH_MAX = 8 * 1024 * 1024;
const RANGE_MAX = 100_000;
const REASON_LENGTH_MAX = 500;

export interface TemplateInput {
  readonly messages: readonly ChatMessage[];
  readonly add_generation_prompt: boolean;
  readonly now_seconds: number;
  readonly bos_token: string;
  readonly eos_token: string;
  readonly template_arguments: Readonly<Record<string, unknown>>;
}

/** The template itself says that it can't render this conversation. */
class TemplateRefusal extends Error {}

export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;

  /** Parses. Throws `engine.template`. */
  constructor(source: string) {
    if (source.length > TEMPLATE_LENGTH_MAX)
      throw broken(`it has ${source.length} characters, the limit is ${TEMPLATE_LENGTH_MAX}`);
    try {
      // Blanks around blocks are handled as Hugging Face's own renderer does.
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (cause) {
      throw broken(reasonOf(cause), cause);
    }
  }

  /** Throws `engine.template` (it fails), `engine.template_refused` (it says why), `engine.prompt_too_long`. */
  render(input: TemplateInput): string {
    let text: string;
    try {
      text = String(new Interpreter(environmentOf(input)).run(this.#program).value);
    } catch (cause) {
      if (cause instanceof MinikeepError) throw cause;
      if (!(cause instanceof TemplateRefusal)) throw broken(reasonOf(cause), cause);
      throw new MinikeepError(
        'engine.template_refused',
        `the model's chat template refuses this conversation: ${reasonOf(cause)}`,
        {
          next: NEXT.changeConversation,
          cause,
        },
      );
    }
    if (text.length > PROMPT_LENGTH_MAX)
      throw new MinikeepError(
        'engine.prompt_too_long',
        `the chat template made ${text.length} characters; the limit is ${PROMPT_LENGTH_MAX}`,
        { next: NEXT.shortenConversation },
      );
    return text;
  }
}

/** What a template can see. The conversation lies over the constants and functions, so neither can be redeclared. */
function environmentOf(input: TemplateInput): Environment {
  const globals = new Environment();
  const constants = { true: true, false: false, none: null, True: true, False: false, None: null };
  for (const [name, value] of Object.entries(constants)) globals.set(name, value);
  globals.set('raise_exception', refuse);
  globals.set('strftime_now', (format: unknown) => strftime(String(format), input.now_seconds));
  globals.set('range', boundedRange);
  const { messages, add_generation_prompt, bos_token, eos_token, template_arguments } = input;
  const conversation = new Environment(globals);
  const own = { messages, add_generation_prompt, bos_token, eos_token };
  for (const [name, value] of Object.entries({ ...template_arguments, ...own }))
    if (!conversation.variables.has(name)) conversation.set(name, value);
  return conversation;
}

function refuse(reason: unknown): never {
  throw new TemplateRefusal(String(reason));
}

function boundedRange(first: number, second?: unknown, third?: unknown): number[] {
  const [start, stop] = typeof second === 'number' ? [first, second] : [0, first];
  const step = typeof third === 'number' ? third : 1;
  const count = step === 0 ? 0 : Math.max(0, Math.ceil((stop - start) / step));
  if (!(count <= RANGE_MAX)) throw broken(`a range of ${count} numbers`);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

const reasonOf = (thrown: unknown): string =>
  (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, REASON_LENGTH_MAX);

function broken(reason: string, cause?: unknown): MinikeepError {
  return new MinikeepError(
    'engine.template',
    `the model's chat template does not work: ${reason}`,
    {
      next: NEXT.useRaw,
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
