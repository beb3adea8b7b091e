/**
 * The dumb twin of the slicer: everything in memory, one plain rule after the other, for llama only. It shares no
 * code with the real one but the writer of values.
 */
import type { Scalar } from '../src/index.ts';
import type { TestTensor } from './support.ts';

export type Meta = ReadonlyMap<string, Scalar | readonly Scalar[]>;

export interface Expected {
  readonly keys: Record<string, Scalar | readonly Scalar[]>;
  readonly tensors: Record<string, { shape: readonly number[]; type: string; data: Uint8Array }>;
}

/** What the stage with layers first <= i < end of this llama has to contain, minikeep's own keys left out. */
export function twinStage(
  meta: Meta,
  tensors: readonly TestTensor[],
  first: number,
  end: number,
  layers: number,
): Expected {
  const last = end === layers;
  const keys: Record<string, Scalar | readonly Scalar[]> = {};
  for (const [name, value] of meta) {
    if (name === 'tokenizer.chat_template' || name === 'llama.nextn_predict_layers') continue;
    if (name.startsWith('tokenizer.') && !last) continue;
    keys[name] = value;
  }
  keys['llama.block_count'] = end - first;
  const lengths = meta.get('llama.feed_forward_length') as readonly Scalar[];
  keys['llama.feed_forward_length'] = lengths.slice(first, end);
  if (!last) {
    keys['tokenizer.ggml.model'] = 'no_vocab';
    keys['llama.vocab_size'] = 32;
  }
  const out: Expected['tensors'] = {};
  const put = (name: string, t: TestTensor): void => {
    out[name] = { shape: t.shape, type: t.type, data: t.data };
  };
  for (const t of tensors) {
    const parts = t.name.split('.');
    if (parts[0] === 'blk') {
      const layer = Number(parts[1]);
      if (layer >= first && layer < end)
        put(['blk', layer - first, ...parts.slice(2)].join('.'), t);
    } else if (t.name === 'rope_freqs.weight') put(t.name, t);
    else if (last && t.name === 'output_norm.weight') put(t.name, t);
    else if (last && t.name === 'output.weight') put('token_embd.weight', t);
    else if (last && t.name === 'output.bias') put(t.name, t);
  }
  const find = (name: string) => tensors.find((t) => t.name === name);
  if (last && find('output.weight') === undefined)
    put('token_embd.weight', find('token_embd.weight')!);
  if (!last) {
    const width = find('output_norm.weight')!.shape[0] as number;
    const zeros = new Uint8Array(width * 32 * 4);
    out['token_embd.weight'] = { shape: [width, 32], type: 'F32', data: zeros };
    const ones = new Uint8Array(new Float32Array(width).fill(1).buffer);
    out['output_norm.weight'] = { shape: [width], type: 'F32', data: ones };
  }
  return { keys, tensors: out };
}
