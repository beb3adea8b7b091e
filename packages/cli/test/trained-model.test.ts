/** A trained model over three nodes says, token by token, what one engine that holds all of it says. */
import { startEngine, type EngineClient, type LoadStage } from '@minikeep/engine';
import {
  DEFAULT_SAMPLING,
  ROWS,
  decodeFrame,
  encodeFrame,
  type ResultFrame,
  type SequenceOp,
  type Span,
} from '@minikeep/protocol';
import { directPlatform, needSharedModel } from '@minikeep/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Cache, DIST, ask, chat, deploy, start } from './cluster-helpers.ts';

const QUESTION = 'Name three colours.';
const TOKENS = 48;
const CONTEXT = 512;

let cache: Cache;
beforeAll(() => {
  cache = new Cache();
});
afterAll(() => cache.remove());

/** One engine with the whole model, fed frame by frame. */
class WholeModel {
  readonly #engine: EngineClient;
  #step = 0;
  #answer: (frame: ResultFrame) => void = () => {};

  private constructor(engine: EngineClient) {
    this.#engine = engine;
    engine.onFrame((bytes) => {
      const frame = decodeFrame(bytes);
      if (frame.kind === 'result') this.#answer(frame);
    });
  }

  static async open(file: string, layers: number): Promise<WholeModel> {
    const load: LoadStage = {
      type: 'load_stage',
      slice: file,
      first: true,
      last: true,
      layers: [0, layers],
      context: { n_ctx: CONTEXT, n_batch: 64, n_seq_max: 1, mode: 'exact', threads: 1, gpu: false },
    };
    return new WholeModel(await startEngine({ platform: directPlatform(), load, programs: DIST }));
  }

  async step(ops: SequenceOp[], spans: Span[], tokens: number[]): Promise<ResultFrame> {
    const back = new Promise<ResultFrame>((resolve) => (this.#answer = resolve));
    const rows = { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() };
    const step = ++this.#step;
    const ids = Int32Array.from(tokens);
    const frame = {
      kind: 'step',
      epoch: 1,
      step,
      ops,
      spans,
      tokens: ids,
      timings: [],
      rows,
    } as const;
    await this.#engine.sendFrame(encodeFrame(frame));
    return back;
  }

  stop(): Promise<unknown> {
    return this.#engine.kill('done');
  }
}

it('SmolLM2 answers over three nodes as in one process', async (ctx) => {
  const file = needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const cluster = await start(3, cache);
  await deploy(cluster, file, { context: CONTEXT });
  const sampling = { temperature: 0, stop: [] };
  const answer = await ask(cluster, chat(QUESTION), { maxTokens: TOKENS, sampling });
  const { tokens: prompt } = await cluster.operator.tokenize({
    deployment: 'test',
    prompt: {
      $case: 'chat',
      value: { messages: [{ role: 'user', content: QUESTION }], templateArgumentsJson: '' },
    },
  });
  await cluster.stop();

  const whole = await WholeModel.open(file, 30);
  const blob = new TextEncoder().encode(JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0 }));
  const span = (position: number, count: number): Span => ({
    seq: 0,
    position,
    count,
    sample: true,
    logits: false,
    replay: false,
  });
  let result = await whole.step(
    [{ op: 'open', seq: 0, sampling: blob }],
    [span(0, prompt.length)],
    prompt,
  );
  const ids: number[] = [];
  let text = '';
  for (;;) {
    const [output] = result.outputs;
    if (output === undefined || output.finish !== 'none') break;
    ids.push(output.token);
    text += new TextDecoder().decode(output.text);
    if (ids.length === TOKENS) break;
    result = await whole.step([], [span(prompt.length + ids.length - 1, 1)], [output.token]);
  }
  await whole.stop();
  expect(answer.ids).toEqual(ids);
  expect(answer.text).toBe(text);
  expect(answer.text).toMatch(/colou?r|red|blue|green/i);
});

it('a chat template that names the user shows what the model was given', async (ctx) => {
  const file = needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const cluster = await start(1, cache);
  await deploy(cluster, file, { context: CONTEXT });
  const { text } = await cluster.operator.tokenize({
    deployment: 'test',
    prompt: {
      $case: 'chat',
      value: { messages: [{ role: 'user', content: QUESTION }], templateArgumentsJson: '' },
    },
  });
  expect(text).toContain('<|im_start|>user\nName three colours.<|im_end|>');
  expect(text.endsWith('<|im_start|>assistant\n')).toBe(true);
  await cluster.stop();
});
