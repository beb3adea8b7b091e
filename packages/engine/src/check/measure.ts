/**
 * How fast an engine reads weights and computes on this machine: a model that nobody needs, with zeros for weights (a
 * hole in a file), in an engine like any other, sandbox included. Large enough that no processor's cache holds it.
 */
import { open } from 'node:fs/promises';
import path from 'node:path';
import type { SandboxPlatform } from '@minikeep/containment';
import { ggmlType, headerOf, scalarKey, tensorBytes } from '@minikeep/gguf';
import { MinikeepError } from '@minikeep/protocol';
import { Pipeline } from './pipeline.ts';
import { Script } from './script.ts';

const LAYERS = 4;
const EMBEDDING = 2048;
const FEED_FORWARD = 8192;
const HEADS = 16;
const HEADS_KV = 4;
const HEAD_SIZE = EMBEDDING / HEADS;
const VOCABULARY = 256;
const WEIGHTS = 'Q4_0';
const PROMPT_TOKENS = 64;
/** The first step meets cold caches and a file that was never read. */
const WARM_UPS = 1;
const PROMPTS = 1;
const TOKENS = 8;
const OPERATIONS_PER_VALUE = 2;

export interface Speed {
  /** Bytes of weights a second, while one token is computed. */
  readonly memoryBytesPerSecond: number;
  /** Multiplications and additions a second, while a prompt is computed. */
  readonly operationsPerSecond: number;
}

export interface MeasureOptions {
  readonly platform: SandboxPlatform;
  /** The folder with the engine's program and libraries. */
  readonly programs: string;
  /** An empty folder of the caller's, who removes it. */
  readonly folder: string;
  readonly threads: number;
  readonly signal?: AbortSignal;
}

/** Takes some seconds and 140 MB. Throws `engine.*`, `measure.failed`, the signal's reason. */
export async function measureSpeed(options: MeasureOptions): Promise<Speed> {
  const file = path.join(options.folder, 'measure.gguf');
  const layer = await writeModel(file);
  const pipeline = await Pipeline.start(
    [{ slice: file, layers: [0, LAYERS], first: true, last: true }],
    {
      ...options,
      context: {
        n_ctx: 1024,
        n_seq_max: 1,
        n_batch: PROMPT_TOKENS,
        threads: options.threads,
        mode: 'exact',
        gpu: true,
      },
    },
  );
  try {
    const script = new Script(VOCABULARY).open(0);
    for (let i = 0; i < WARM_UPS + PROMPTS; i++) script.step([0, PROMPT_TOKENS]);
    for (let i = 0; i < WARM_UPS + TOKENS; i++) script.step([0, 1]);
    const seconds: number[] = [];
    for (const step of script.steps) {
      const began = performance.now();
      await pipeline.step(step);
      seconds.push((performance.now() - began) / 1000);
    }
    const prompts = seconds.slice(WARM_UPS, WARM_UPS + PROMPTS);
    const tokens = seconds.slice(2 * WARM_UPS + PROMPTS);
    // The quickest: what else the machine does can only slow a step.
    const [prompt, token] = [Math.min(...prompts), Math.min(...tokens)];
    if (!(prompt > 0 && token > 0 && Number.isFinite(prompt + token)))
      throw new MinikeepError('measure.failed', 'the engine took no time at all', {
        next: 'Try again.',
      });
    return {
      memoryBytesPerSecond: (LAYERS * layer.bytes) / token,
      operationsPerSecond: (OPERATIONS_PER_VALUE * LAYERS * layer.values * PROMPT_TOKENS) / prompt,
    };
  } finally {
    await pipeline.stop();
  }
}

/** Returns what one layer's matrices hold. */
async function writeModel(file: string): Promise<{ bytes: number; values: number }> {
  const matrices: readonly (readonly [string, number, number])[] = [
    ['attn_q', EMBEDDING, EMBEDDING],
    ['attn_k', EMBEDDING, HEADS_KV * HEAD_SIZE],
    ['attn_v', EMBEDDING, HEADS_KV * HEAD_SIZE],
    ['attn_output', EMBEDDING, EMBEDDING],
    ['ffn_gate', EMBEDDING, FEED_FORWARD],
    ['ffn_up', EMBEDDING, FEED_FORWARD],
    ['ffn_down', FEED_FORWARD, EMBEDDING],
  ];
  const [type, plain] = [ggmlType(WEIGHTS), ggmlType('F32')];
  const tensor = (name: string, shape: readonly number[], kind = type) => ({
    name: `${name}.weight`,
    shape,
    type: kind,
  });
  const tensors = [
    tensor('token_embd', [EMBEDDING, VOCABULARY]),
    tensor('output_norm', [EMBEDDING], plain),
    ...Array.from({ length: LAYERS }, (_, i) => [
      tensor(`blk.${i}.attn_norm`, [EMBEDDING], plain),
      tensor(`blk.${i}.ffn_norm`, [EMBEDDING], plain),
      ...matrices.map(([name, row, rows]) => tensor(`blk.${i}.${name}`, [row, rows])),
    ]).flat(),
  ];
  const header = headerOf(
    [
      scalarKey('general.architecture', 'string', 'llama'),
      scalarKey('tokenizer.ggml.model', 'string', 'no_vocab'),
      ...Object.entries({
        vocab_size: VOCABULARY,
        block_count: LAYERS,
        context_length: 4096,
        embedding_length: EMBEDDING,
        feed_forward_length: FEED_FORWARD,
        'attention.head_count': HEADS,
        'attention.head_count_kv': HEADS_KV,
      }).map(([key, value]) => scalarKey(`llama.${key}`, 'uint32', value)),
      scalarKey('llama.attention.layer_norm_rms_epsilon', 'float32', 1e-5),
    ],
    tensors,
  );
  // Every tensor's size is a multiple of the alignment here.
  const data = tensors.reduce((sum, t) => sum + tensorBytes(t.type, t.shape), 0);
  const handle = await open(file, 'w', 0o600);
  try {
    for (const segment of header.segments)
      if (segment.from === 'memory') await handle.writeFile(segment.data);
    await handle.truncate(header.bytes + data);
  } finally {
    await handle.close();
  }
  const values = matrices.reduce((sum, [, row, rows]) => sum + row * rows, 0);
  return { values, bytes: tensorBytes(type, [values]) };
}
