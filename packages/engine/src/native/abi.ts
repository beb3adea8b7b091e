/**
 * The C structures that are passed by value to llama.cpp v0.4.0, field by field, and the values that its own
 * `*_default_params` functions return. A structure that was laid out differently would be filled with nonsense
 * without a word, so the engine compares at every start and refuses to run on any difference.
 */
import koffi from 'koffi';
import { MinikeepError } from '@minikeep/protocol';
import { NEXT } from '../next-steps.ts';

/** `llama_version()` of the libraries that this table belongs to. */
export const KNOWN_LLAMA_VERSION = '0.4.0-dev';

export type Address = bigint;
export type Field = number | bigint | boolean | null;
export type Fields = Record<string, Field>;

export const EvalCallback = koffi.proto('bool (void* tensor, bool ask, void* user_data)');
export const LogCallback = koffi.proto('void (int level, const char* text, void* user_data)');
export const ProgressCallback = koffi.proto('bool (float progress, void* user_data)');

type Row = readonly [name: string, type: string, known: Field];

const MODEL_PARAMS: readonly Row[] = [
  ['devices', 'void*', null],
  ['tensor_buft_overrides', 'void*', null],
  ['n_gpu_layers', 'int32', -1],
  ['split_mode', 'int', 1],
  ['load_mode', 'int', -1],
  ['lazy_mode', 'int', 1],
  ['main_gpu', 'int32', 0],
  ['tensor_split', 'void*', null],
  ['progress_callback', 'void*', null],
  ['progress_callback_user_data', 'void*', null],
  ['kv_overrides', 'void*', null],
  ['vocab_only', 'bool', false],
  ['check_tensors', 'bool', false],
  ['use_extra_bufts', 'bool', true],
  ['no_host', 'bool', false],
  ['no_alloc', 'bool', false],
  ['load_mtp', 'bool', false],
];
const MODEL_PARAMS_BYTES = 80;

const CONTEXT_PARAMS: readonly Row[] = [
  ['n_ctx', 'uint32', 512],
  ['n_batch', 'uint32', 2048],
  ['n_ubatch', 'uint32', 512],
  ['n_seq_max', 'uint32', 1],
  ['n_rs_seq', 'uint32', 0],
  ['n_outputs_max', 'uint32', 0],
  ['n_outputs_max_per_seq', 'uint32', 1],
  ['n_threads', 'int32', 4],
  ['n_threads_batch', 'int32', 4],
  ['ctx_type', 'int', 0],
  ['rope_scaling_type', 'int', -1],
  ['pooling_type', 'int', -1],
  ['attention_type', 'int', -1],
  ['flash_attn_type', 'int', -1],
  ['rope_freq_base', 'float', 0],
  ['rope_freq_scale', 'float', 0],
  ['yarn_ext_factor', 'float', -1],
  ['yarn_attn_factor', 'float', -1],
  ['yarn_beta_fast', 'float', -1],
  ['yarn_beta_slow', 'float', -1],
  ['yarn_orig_ctx', 'uint32', 0],
  ['defrag_thold', 'float', -1],
  ['cb_eval', 'void*', null],
  ['cb_eval_user_data', 'void*', null],
  ['type_k', 'int', 1],
  ['type_v', 'int', 1],
  ['abort_callback', 'void*', null],
  ['abort_callback_data', 'void*', null],
  ['embeddings', 'bool', false],
  ['offload_kqv', 'bool', true],
  ['no_perf', 'bool', true],
  ['op_offload', 'bool', true],
  ['swa_full', 'bool', true],
  ['kv_unified', 'bool', false],
  ['samplers', 'void*', null],
  ['n_samplers', 'size_t', 0],
  ['ctx_other', 'void*', null],
];
const CONTEXT_PARAMS_BYTES = 160;

/** Behind `bool cpumask[512]`, which is compared by its own. */
const THREADPOOL_PARAMS: readonly Row[] = [
  ['n_threads', 'int', 1],
  ['prio', 'int', 0],
  ['poll', 'uint32', 50],
  ['strict_cpu', 'bool', false],
  ['paused', 'bool', false],
];
const CPU_MASK_LENGTH = 512;
const THREADPOOL_PARAMS_BYTES = 528;

const fieldsOf = (rows: readonly Row[]): Record<string, string> =>
  Object.fromEntries(rows.map(([name, type]) => [name, type]));

export const ModelParams = koffi.struct(fieldsOf(MODEL_PARAMS));
export const ContextParams = koffi.struct(fieldsOf(CONTEXT_PARAMS));
export const ThreadpoolParams = koffi.struct({
  cpumask: koffi.array('bool', CPU_MASK_LENGTH, 'Array'),
  ...fieldsOf(THREADPOOL_PARAMS),
});
export const SamplerChainParams = koffi.struct({ no_perf: 'bool' });
export const Batch = koffi.struct({
  n_tokens: 'int32',
  token: 'void*',
  embd: 'void*',
  pos: 'void*',
  n_seq_id: 'void*',
  seq_id: 'void*',
  logits: 'void*',
});

/**
 * Where llama.cpp v0.4.0 keeps what the engine reads and writes inside a `ggml_tensor` by its offset in bytes; there
 * are no functions for these. Each use checks what it finds there before it writes.
 */
export const TENSOR = { opParams: 84, source0: 152, name: 256 } as const;

export interface DefaultParams {
  readonly model: Fields;
  readonly context: Fields;
  readonly threadpool: Fields & { cpumask?: never };
  /** Entries of the thread pool's processor mask that are set. */
  readonly masked: number;
}

/** Throws `engine.abi_mismatch` unless the library's defaults and version are exactly the known ones. */
export function checkAbi(version: string, defaults: DefaultParams): void {
  const wrong: string[] = [];
  if (version !== KNOWN_LLAMA_VERSION)
    wrong.push(`version ${version}, known is ${KNOWN_LLAMA_VERSION}`);
  compare('llama_model_params', MODEL_PARAMS, defaults.model, wrong);
  compare('llama_context_params', CONTEXT_PARAMS, defaults.context, wrong);
  compare('ggml_threadpool_params', THREADPOOL_PARAMS, defaults.threadpool, wrong);
  if (defaults.masked !== 0) wrong.push(`ggml_threadpool_params.cpumask: ${defaults.masked} set`);
  const sizes = [
    [koffi.sizeof(ModelParams), MODEL_PARAMS_BYTES],
    [koffi.sizeof(ContextParams), CONTEXT_PARAMS_BYTES],
    [koffi.sizeof(ThreadpoolParams), THREADPOOL_PARAMS_BYTES],
  ] as const;
  for (const [size, known] of sizes)
    if (size !== known) wrong.push(`a structure has ${size} bytes, known is ${known}`);
  if (wrong.length === 0) return;
  throw new MinikeepError(
    'engine.abi_mismatch',
    `the engine's libraries are not the ones that minikeep was made for: ${wrong.slice(0, 4).join('; ')}`,
    { next: NEXT.pinnedLibraries },
  );
}

function compare(name: string, rows: readonly Row[], got: Fields, wrong: string[]): void {
  for (const [field, , known] of rows) {
    const value = got[field];
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (number !== known)
      wrong.push(`${name}.${field} is ${String(value)}, known is ${String(known)}`);
  }
}
