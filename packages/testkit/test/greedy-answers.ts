/** Greedy answers of a whole model in real engines: one for text, one for layers, many questions in each step. */
import path from 'node:path';
import { startEngine, type ChatMessage, type EngineClient } from '@minikeep/engine';
import {
  DEFAULT_SAMPLING,
  ROWS,
  decodeFrame,
  encodeFrame,
  type ResultFrame,
  type SequenceOp,
  type Span,
} from '@minikeep/protocol';
import { REPOSITORY, directPlatform } from '@minikeep/testkit';

const PROGRAMS = path.join(REPOSITORY, 'dist');
const SLOTS = 16;
const CONTEXT = 512;
const BATCH_TOKENS = 512;
const STEP_TIMEOUT_MS = 60_000;

export interface Reply {
  readonly text: string;
  readonly tokens: number;
  /** False: it was still talking at the limit. */
  readonly ended: boolean;
}

interface Talking {
  readonly question: number;
  next: number;
  position: number;
  tokens: number;
  text: string;
}

export class GreedyModel {
  readonly #text: EngineClient;
  readonly #stage: EngineClient;
  #step = 0;
  #answer: (frame: ResultFrame) => void = () => {};
  #refuse: (error: Error) => void = () => {};

  private constructor(text: EngineClient, stage: EngineClient) {
    this.#text = text;
    this.#stage = stage;
    stage.onFrame((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame.kind === 'result') this.#answer(frame);
    });
    void stage.exited.then(() => this.#refuse(new Error('the engine ended')));
  }

  static async open(file: string, layers: number): Promise<GreedyModel> {
    const platform = directPlatform();
    const text = await startEngine({
      platform,
      load: { type: 'load_text', file },
      programs: PROGRAMS,
    });
    const stage = await startEngine({
      platform,
      programs: PROGRAMS,
      load: {
        type: 'load_stage',
        slice: file,
        first: true,
        last: true,
        layers: [0, layers],
        context: {
          n_ctx: CONTEXT,
          n_batch: BATCH_TOKENS,
          n_seq_max: SLOTS,
          mode: 'exact',
          threads: 1,
          gpu: false,
        },
      },
    });
    return new GreedyModel(text, stage);
  }

  /** Token ids of a conversation, by the model's own template, up to where the model begins. */
  async prompt(messages: readonly ChatMessage[]): Promise<readonly number[]> {
    const request = { op: 'chat', messages, add_generation_prompt: true, now_seconds: 0 } as const;
    return (await this.#text.text(request)).tokens;
  }

  /** Text -> tokens -> text, without marks. */
  async roundTrip(text: string): Promise<string> {
    const request = { op: 'tokenize', text, add_special: false, parse_special: false } as const;
    const { tokens } = await this.#text.text(request);
    return (await this.#text.text({ op: 'detokenize', tokens, special: true })).text;
  }

  /** The reply to each conversation, in their order. */
  async replies(conversations: readonly ChatMessage[][], tokensMax: number): Promise<Reply[]> {
    const prompts: (readonly number[])[] = [];
    for (const conversation of conversations) prompts.push(await this.prompt(conversation));
    const replies: Reply[] = [];
    const slots: (Talking | undefined)[] = Array.from({ length: SLOTS });
    let closing: SequenceOp[] = [];
    let asked = 0;
    while (replies.filter(Boolean).length < conversations.length) {
      const ops: SequenceOp[] = closing;
      const spans: Span[] = [];
      const tokens: number[] = [];
      closing = [];
      for (const [seq, talking] of slots.entries()) {
        const prompt = prompts[asked];
        if (talking !== undefined) {
          spans.push(span(seq, talking.position++, 1));
          tokens.push(talking.next);
        } else if (prompt !== undefined && tokens.length + prompt.length + SLOTS < BATCH_TOKENS) {
          slots[seq] = {
            question: asked++,
            next: -1,
            position: prompt.length,
            tokens: 0,
            text: '',
          };
          ops.push({ op: 'open', seq, sampling: GREEDY });
          spans.push(span(seq, 0, prompt.length));
          tokens.push(...prompt);
        }
      }
      const result = await this.#run(ops, spans, tokens);
      for (const output of result.outputs) {
        const talking = slots[output.seq];
        if (talking === undefined) continue;
        talking.text += new TextDecoder().decode(output.text);
        talking.next = output.token;
        const ended = output.finish !== 'none';
        if (!ended) talking.tokens++;
        if (!ended && talking.tokens < tokensMax) continue;
        replies[talking.question] = { text: talking.text, tokens: talking.tokens, ended };
        slots[output.seq] = undefined;
        closing.push({ op: 'close', seq: output.seq });
      }
    }
    if (closing.length > 0) await this.#run(closing, [], []);
    return replies;
  }

  async close(): Promise<void> {
    await Promise.all([this.#text.stop(), this.#stage.stop()]);
  }

  async #run(ops: SequenceOp[], spans: Span[], tokens: number[]): Promise<ResultFrame> {
    const { promise, resolve, reject } = Promise.withResolvers<ResultFrame>();
    this.#answer = resolve;
    this.#refuse = reject;
    const timer = setTimeout(() => reject(new Error('no result in time')), STEP_TIMEOUT_MS);
    const step = ++this.#step;
    const rows = { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() };
    const frame = { kind: 'step', epoch: 1, step, ops, spans, timings: [], rows } as const;
    await this.#stage.sendFrame(encodeFrame({ ...frame, tokens: Int32Array.from(tokens) }));
    return promise.finally(() => clearTimeout(timer));
  }
}

const GREEDY = new TextEncoder().encode(JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0 }));

const span = (seq: number, position: number, count: number): Span => ({
  seq,
  position,
  count,
  sample: true,
  logits: false,
  replay: false,
});
