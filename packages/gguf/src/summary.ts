/** What is in a model file, in the words of `model show`. Reads nothing but the checked header. */
import { archKey, integerOf, textOf } from './metadata.ts';
import type { Model } from './types.ts';

export interface ModelSummary {
  readonly architecture: string;
  readonly name: string | undefined;
  readonly licence: string | undefined;
  readonly files: number;
  readonly size_bytes: number;
  /** Values in all tensors. */
  readonly parameters: number;
  /** Layers, MTP blocks included. */
  readonly layers: number | undefined;
  readonly mtp_layers: number;
  readonly embedding_length: number | undefined;
  readonly context_length: number | undefined;
  readonly experts: number | undefined;
  readonly experts_used: number | undefined;
  readonly tensors: number;
  /** The type that holds most of the values. */
  readonly quantisation: string;
  /** Bits a value over all tensors. */
  readonly bits_per_weight: number;
  readonly tensor_types: readonly {
    readonly type: string;
    readonly tensors: number;
    readonly bytes: number;
  }[];
  readonly tokenizer: string | undefined;
  readonly vocabulary: number | undefined;
  /** The chat template itself: a program written by whoever made the file. */
  readonly template: string | undefined;
}

export function describeModel(model: Model): ModelSummary {
  const types = new Map<string, { tensors: number; bytes: number; values: number }>();
  for (const tensor of model.tensors.values()) {
    const entry = types.get(tensor.type.name) ?? { tensors: 0, bytes: 0, values: 0 };
    entry.tensors += 1;
    entry.bytes += tensor.bytes;
    entry.values += tensor.shape.reduce((product, n) => product * n, 1);
    types.set(tensor.type.name, entry);
  }
  const sorted = [...types].toSorted(([, a], [, b]) => b.values - a.values);
  const parameters = sorted.reduce((sum, [, t]) => sum + t.values, 0);
  const weightBytes = sorted.reduce((sum, [, t]) => sum + t.bytes, 0);
  const arch = (name: string): number | undefined => integerOf(model, archKey(model, name));
  return {
    architecture: model.architecture,
    name: textOf(model, 'general.name'),
    licence: textOf(model, 'general.license'),
    files: model.files.length,
    size_bytes: model.sizeBytes,
    parameters,
    layers: arch('block_count'),
    mtp_layers: arch('nextn_predict_layers') ?? 0,
    embedding_length: arch('embedding_length'),
    context_length: arch('context_length'),
    experts: arch('expert_count'),
    experts_used: scalarOnly(model, 'expert_used_count'),
    tensors: model.tensors.size,
    quantisation: sorted[0]?.[0] ?? 'none',
    bits_per_weight: parameters === 0 ? 0 : (weightBytes * 8) / parameters,
    tensor_types: sorted.map(([type, { tensors, bytes }]) => ({ type, tensors, bytes })),
    tokenizer: textOf(model, 'tokenizer.ggml.model'),
    vocabulary: vocabulary(model),
    template: textOf(model, 'tokenizer.chat_template'),
  };
}

/** Some architectures give a list with one entry a layer; a summary has no single number then. */
function scalarOnly(model: Model, name: string): number | undefined {
  const key = archKey(model, name);
  return model.metadata.get(key)?.type === 'array' ? undefined : integerOf(model, key);
}

function vocabulary(model: Model): number | undefined {
  const tokens = model.metadata.get('tokenizer.ggml.tokens');
  if (tokens?.type === 'array') return tokens.count;
  return model.tensors.get('token_embd.weight')?.shape[1];
}
