/**
 * Answers the questions about text: chat template, tokens of a prompt, text of tokens. It reads untrusted data (the
 * file's vocabulary and template), so it has a sandbox of its own.
 */
import { setFlagsFromString } from 'node:v8';
import { MinikeepError } from '@minikeep/protocol';
import type { EngineMemory, TextRequest, TextResult } from '../messages.ts';
import type { Binding } from '../native/binding.ts';
import { loadModel } from '../stage/model.ts';
import { Placeholders } from './placeholders.ts';
import { ChatTemplate } from './template.ts';
import { noTemplate, noVocabulary } from './text-errors.ts';
import { Vocabulary, type SpecialToken } from './vocabulary.ts';
import { NEXT } from '../next-steps.ts';

/** V8's own heap: a template that doubles a text again and again ends here. */
const HEAP_MIB_MAX = 1024;
const TEXT_LENGTH_MAX = 8 * 1024 * 1024;
const WARM_UP_TEMPLATE =
  "{% for m in messages %}{{ m['role'] | trim }}{% endfor %}{{ strftime_now('%Y') }}";

type ChatRequest = Extract<TextRequest, { op: 'chat' }>;

export class TextEngine {
  readonly info: {
    readonly n_vocab: number;
    readonly n_embd: number;
    readonly n_layer: number;
    readonly memory: EngineMemory;
  };
  readonly #vocabulary: Vocabulary;
  readonly #special: readonly SpecialToken[];
  readonly #templates: { readonly plain: string | null; readonly tools: string | null };
  readonly #parsed = new Map<string, ChatTemplate>();

  private constructor(vocabulary: Vocabulary, plain: string | null, tools: string | null) {
    this.#vocabulary = vocabulary;
    this.#special = vocabulary.specialTokens();
    this.#templates = { plain, tools };
    const memory = { weights_bytes: 0, kv_bytes: 0, compute_bytes: 0 };
    this.info = { n_vocab: vocabulary.size, n_embd: 0, n_layer: 0, memory };
  }

  /** Loads the vocabulary of a GGUF file. Throws `engine.load_failed`, `engine.no_vocabulary`. */
  static open(binding: Binding, file: string): TextEngine {
    setFlagsFromString(`--max-old-space-size=${HEAP_MIB_MAX}`);
    const model = loadModel(
      binding,
      file,
      { gpu: false, vocabularyOnly: true, repack: false },
      () => {},
    );
    const vocabulary = new Vocabulary(binding, model);
    if (!vocabulary.present) throw noVocabulary();
    const plain = binding.chatTemplate(model, null);
    const tools = binding.chatTemplate(model, 'tool_use');
    return new TextEngine(vocabulary, plain, tools);
  }

  /**
   * Uses everything once, so that nothing has to be loaded after the seal. The model's own template is not run: one
   * that loops for ever would keep the engine from ever being ready.
   */
  warmUp(): void {
    this.answer({ op: 'tokenize', text: 'a', add_special: true, parse_special: true });
    this.answer({ op: 'detokenize', tokens: [0], special: true });
    const messages = [{ role: 'user', content: 'a' }];
    new Placeholders(this.#special).hide(messages, WARM_UP_TEMPLATE);
    new ChatTemplate(WARM_UP_TEMPLATE).render({
      messages,
      add_generation_prompt: true,
      now_seconds: 0,
      bos_token: '',
      eos_token: '',
      template_arguments: {},
    });
  }

  /** Throws `engine.*`. */
  answer(request: TextRequest): TextResult {
    switch (request.op) {
      case 'chat':
        return this.#chat(request);
      case 'tokenize': {
        const { text, add_special, parse_special } = request;
        return { op: 'tokenize', tokens: [...this.#tokenize(text, add_special, parse_special)] };
      }
      case 'detokenize':
        return {
          op: 'detokenize',
          text: this.#vocabulary.detokenize(request.tokens, request.special),
        };
    }
  }

  #chat(request: ChatRequest): TextResult {
    const source = this.#templateFor(request);
    const bos = this.#vocabulary.text(this.#vocabulary.bos);
    const placeholders = new Placeholders(this.#special);
    const { messages, template_arguments } = placeholders.hide(
      { messages: request.messages, template_arguments: request.template_arguments ?? {} },
      source,
    );
    const rendered = this.#parse(source).render({
      messages,
      template_arguments,
      add_generation_prompt: request.add_generation_prompt,
      now_seconds: request.now_seconds,
      bos_token: bos,
      eos_token: this.#vocabulary.text(this.#vocabulary.eos),
    });
    // Many templates begin with the token that llama.cpp would add itself.
    let addSpecial = !(bos !== '' && rendered.startsWith(bos));
    const tokens: number[] = [];
    for (const part of placeholders.parts(rendered)) {
      for (const token of this.#tokenize(part.text, addSpecial, part.parseSpecial))
        tokens.push(token);
      addSpecial = false;
    }
    const warnings = placeholders.used
      ? ['The conversation contains texts of special tokens; they are treated as plain text.']
      : [];
    return { op: 'chat', tokens, prompt: placeholders.restore(rendered), warnings };
  }

  #templateFor(request: ChatRequest): string {
    const { plain, tools } = this.#templates;
    const wantsTools = request.template_arguments?.['tools'] !== undefined;
    const source = (wantsTools ? tools : null) ?? plain;
    if (source !== null && source !== '') return source;
    throw noTemplate();
  }

  #parse(source: string): ChatTemplate {
    const parsed = this.#parsed.get(source) ?? new ChatTemplate(source);
    this.#parsed.set(source, parsed);
    return parsed;
  }

  #tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Int32Array {
    if (text.length <= TEXT_LENGTH_MAX)
      return this.#vocabulary.tokenize(text, addSpecial, parseSpecial);
    throw new MinikeepError(
      'engine.prompt_too_long',
      `a text of ${text.length} characters; the limit is ${TEXT_LENGTH_MAX}`,
      { next: NEXT.shortenText },
    );
  }
}
