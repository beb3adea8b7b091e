/**
 * llama.cpp's C functions as typed functions. Opened once a process. Pointers are bigint, 0n or null for none.
 * Signatures: include/llama.h, ggml.h, ggml-backend.h and ggml-cpu.h of llama.cpp v0.4.0.
 */
import path from 'node:path';
import koffi, { type LibraryHandle, type TypeObject } from 'koffi';
import { MinikeepError } from '@minikeep/protocol';
import * as abi from './abi.ts';
import type { Address, Fields } from './abi.ts';
import { devicesOf } from './devices.ts';
import { LogCapture } from './log.ts';
import type { EngineLibraries } from './libraries.ts';
import { NEXT } from '../next-steps.ts';

type Signature = string | TypeObject | ReturnType<typeof koffi.out>;
/** Anything that koffi passes as a pointer: an address, a typed array, nothing. */
export type Pointer = Address | ArrayBufferView | null;

export interface BatchFields {
  n_tokens: number;
  token: Address | null;
  embd: Address | null;
  pos: Address;
  n_seq_id: Address;
  seq_id: Address;
  logits: Address;
}

export type Binding = ReturnType<typeof openBinding>;

/** One C function as a typed one. The type argument states its signature as the caller sees it. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
type Maker = <T>(name: string, result: Signature, args: readonly Signature[]) => T;

const maker =
  (library: LibraryHandle): Maker =>
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  <T>(name: string, result: Signature, args: readonly Signature[]): T =>
    library.func(name, result, [...args]) as T;

/** Loads the libraries and checks them. Throws `engine.abi_mismatch`, `engine.library_missing`. */
export function openBinding(libraries: EngineLibraries) {
  // Its crash handler would start a debugger, which the sandbox reports as an attempt.
  process.env['GGML_NO_BACKTRACE'] = '1';
  const base = open(libraries.base);
  const ggml = open(libraries.ggml);
  const llama = open(libraries.llama);
  const [g, r, f] = [maker(base), maker(ggml), maker(llama)];
  const log = new LogCapture();
  f<(callback: Address, data: null) => void>('llama_log_set', 'void', ['void*', 'void*'])(
    log.callback,
    null,
  );
  const modelDefaults = f<() => Fields>('llama_model_default_params', abi.ModelParams, []);
  const contextDefaults = f<() => Fields>('llama_context_default_params', abi.ContextParams, []);
  const poolDefaults = g<(n: number) => Fields & { cpumask: readonly boolean[] }>(
    'ggml_threadpool_params_default',
    abi.ThreadpoolParams,
    ['int'],
  );
  const version = f<() => string>('llama_version', 'str', [])();
  const { cpumask, ...threadpool } = poolDefaults(1);
  abi.checkAbi(version, {
    model: modelDefaults(),
    context: contextDefaults(),
    threadpool,
    masked: cpumask.filter(Boolean).length,
  });
  const cpuFile = bestCpu(libraries.cpu);
  const loadBackend = r<(file: string) => Address | null>('ggml_backend_load', 'void*', ['str']);
  const backends: string[] = [];
  for (const file of [...libraries.others, cpuFile])
    if (loadBackend(file)) backends.push(path.basename(file));
    else if (file === cpuFile)
      throw new MinikeepError('engine.backend', 'the CPU backend cannot be loaded', {
        next: NEXT.setUp,
      });
  f<() => void>('llama_backend_init', 'void', [])();
  const cpu = open(cpuFile);
  const c = maker(cpu);
  return {
    version,
    backends,
    devices: devicesOf(r, g),
    log,
    base,
    modelDefaults,
    contextDefaults,
    poolDefaults,
    /** Tensors. */
    name: g<(tensor: Address) => string>('ggml_get_name', 'str', ['void*']),
    opName: g<(tensor: Address) => string>('ggml_op_desc', 'str', ['void*']),
    elements: g<(tensor: Address) => number>('ggml_nelements', 'int64', ['void*']),
    tensorGet: g<(tensor: Address, to: Pointer, offset: number, bytes: number) => void>(
      'ggml_backend_tensor_get',
      'void',
      ['void*', 'void*', 'size_t', 'size_t'],
    ),
    tensorSet: g<(tensor: Address, from: Pointer, offset: number, bytes: number) => void>(
      'ggml_backend_tensor_set',
      'void',
      ['void*', 'void*', 'size_t', 'size_t'],
    ),
    /** Threads. */
    poolNew: c<(params: object) => Address | null>('ggml_threadpool_new', 'void*', [
      koffi.pointer(abi.ThreadpoolParams),
    ]),
    poolFree: c<(pool: Address) => void>('ggml_threadpool_free', 'void', ['void*']),
    attachPool: f<(context: Address, pool: Address, batchPool: null) => void>(
      'llama_attach_threadpool',
      'void',
      ['void*', 'void*', 'void*'],
    ),
    /** Models and contexts. */
    loadModel: f<(file: string, params: Fields) => Address | null>(
      'llama_model_load_from_file',
      'void*',
      ['str', abi.ModelParams],
    ),
    freeModel: f<(model: Address) => void>('llama_model_free', 'void', ['void*']),
    newContext: f<(model: Address, params: Fields) => Address | null>(
      'llama_init_from_model',
      'void*',
      ['void*', abi.ContextParams],
    ),
    freeContext: f<(context: Address) => void>('llama_free', 'void', ['void*']),
    layers: f<(model: Address) => number>('llama_model_n_layer', 'int32', ['void*']),
    embd: f<(model: Address) => number>('llama_model_n_embd', 'int32', ['void*']),
    window: f<(model: Address) => number>('llama_model_n_swa', 'int32', ['void*']),
    isRecurrent: f<(model: Address) => boolean>('llama_model_is_recurrent', 'bool', ['void*']),
    isHybrid: f<(model: Address) => boolean>('llama_model_is_hybrid', 'bool', ['void*']),
    hasEncoder: f<(model: Address) => boolean>('llama_model_has_encoder', 'bool', ['void*']),
    contextLength: f<(context: Address) => number>('llama_n_ctx_seq', 'uint32', ['void*']),
    chatTemplate: f<(model: Address, name: string | null) => string | null>(
      'llama_model_chat_template',
      'str',
      ['void*', 'str'],
    ),
    decode: f<(context: Address, batch: BatchFields) => number>('llama_decode', 'int32', [
      'void*',
      abi.Batch,
    ]),
    logitsAt: f<(context: Address, row: number) => Address | null>(
      'llama_get_logits_ith',
      'void*',
      ['void*', 'int32'],
    ),
    synchronize: f<(context: Address) => void>('llama_synchronize', 'void', ['void*']),
    /** The cache. Positions p0 <= p < p1, -1 for open ends. */
    memory: f<(context: Address) => Address>('llama_get_memory', 'void*', ['void*']),
    memoryClear: f<(memory: Address, data: boolean) => void>('llama_memory_clear', 'void', [
      'void*',
      'bool',
    ]),
    sequenceRemove: f<(memory: Address, seq: number, p0: number, p1: number) => boolean>(
      'llama_memory_seq_rm',
      'bool',
      ['void*', 'int32', 'int32', 'int32'],
    ),
    sequenceCopy: f<
      (memory: Address, source: number, target: number, p0: number, p1: number) => void
    >('llama_memory_seq_cp', 'void', ['void*', 'int32', 'int32', 'int32', 'int32']),
    positionMin: f<(memory: Address, seq: number) => number>('llama_memory_seq_pos_min', 'int32', [
      'void*',
      'int32',
    ]),
    positionMax: f<(memory: Address, seq: number) => number>('llama_memory_seq_pos_max', 'int32', [
      'void*',
      'int32',
    ]),
    ...vocabularyFunctions(f),
    ...samplerFunctions(f),
  };
}

function vocabularyFunctions(f: Maker) {
  return {
    vocabulary: f<(model: Address) => Address>('llama_model_get_vocab', 'void*', ['void*']),
    vocabularySize: f<(vocabulary: Address) => number>('llama_vocab_n_tokens', 'int32', ['void*']),
    vocabularyType: f<(vocabulary: Address) => number>('llama_vocab_type', 'int', ['void*']),
    isEog: f<(vocabulary: Address, token: number) => boolean>('llama_vocab_is_eog', 'bool', [
      'void*',
      'int32',
    ]),
    bos: f<(vocabulary: Address) => number>('llama_vocab_bos', 'int32', ['void*']),
    eos: f<(vocabulary: Address) => number>('llama_vocab_eos', 'int32', ['void*']),
    addsBos: f<(vocabulary: Address) => boolean>('llama_vocab_get_add_bos', 'bool', ['void*']),
    tokenText: f<(vocabulary: Address, token: number) => string | null>(
      'llama_vocab_get_text',
      'str',
      ['void*', 'int32'],
    ),
    tokenAttributes: f<(vocabulary: Address, token: number) => number>(
      'llama_vocab_get_attr',
      'int',
      ['void*', 'int32'],
    ),
    /** Negative: minus the number of tokens that there was no room for. */
    tokenize: f<
      (
        vocabulary: Address,
        text: Uint8Array,
        bytes: number,
        tokens: Int32Array,
        room: number,
        addSpecial: boolean,
        parseSpecial: boolean,
      ) => number
    >('llama_tokenize', 'int32', ['void*', 'void*', 'int32', 'void*', 'int32', 'bool', 'bool']),
    /** Bytes of one token; negative: minus the room that it needs. */
    tokenToPiece: f<
      (
        vocabulary: Address,
        token: number,
        to: Uint8Array,
        room: number,
        stripLeft: number,
        special: boolean,
      ) => number
    >('llama_token_to_piece', 'int32', ['void*', 'int32', 'void*', 'int32', 'int32', 'bool']),
    detokenize: f<
      (
        vocabulary: Address,
        tokens: Int32Array,
        count: number,
        to: Uint8Array,
        room: number,
        removeSpecial: boolean,
        unparseSpecial: boolean,
      ) => number
    >('llama_detokenize', 'int32', ['void*', 'void*', 'int32', 'void*', 'int32', 'bool', 'bool']),
  };
}

function samplerFunctions(f: Maker) {
  return {
    chainNew: f<(params: { no_perf: boolean }) => Address>('llama_sampler_chain_init', 'void*', [
      abi.SamplerChainParams,
    ]),
    chainAdd: f<(chain: Address, sampler: Address) => void>('llama_sampler_chain_add', 'void', [
      'void*',
      'void*',
    ]),
    chainRemove: f<(chain: Address, index: number) => Address>(
      'llama_sampler_chain_remove',
      'void*',
      ['void*', 'int32'],
    ),
    samplerFree: f<(sampler: Address) => void>('llama_sampler_free', 'void', ['void*']),
    samplerAccept: f<(chain: Address, token: number) => void>('llama_sampler_accept', 'void', [
      'void*',
      'int32',
    ]),
    samplerReset: f<(chain: Address) => void>('llama_sampler_reset', 'void', ['void*']),
    /** Applies the chain to a row's logits and accepts the token that it picks. */
    samplerSample: f<(chain: Address, context: Address, row: number) => number>(
      'llama_sampler_sample',
      'int32',
      ['void*', 'void*', 'int32'],
    ),
    greedy: f<() => Address>('llama_sampler_init_greedy', 'void*', []),
    dist: f<(seed: number) => Address>('llama_sampler_init_dist', 'void*', ['uint32']),
    topK: f<(k: number) => Address>('llama_sampler_init_top_k', 'void*', ['int32']),
    topP: f<(p: number, keep: number) => Address>('llama_sampler_init_top_p', 'void*', [
      'float',
      'size_t',
    ]),
    minP: f<(p: number, keep: number) => Address>('llama_sampler_init_min_p', 'void*', [
      'float',
      'size_t',
    ]),
    temperature: f<(t: number) => Address>('llama_sampler_init_temp', 'void*', ['float']),
    penalties: f<
      (
        vocabularySize: number,
        lastN: number,
        repeat: number,
        frequency: number,
        presence: number,
      ) => Address
    >('llama_sampler_init_penalties', 'void*', ['int32', 'int32', 'float', 'float', 'float']),
  };
}

function open(file: string): LibraryHandle {
  try {
    return koffi.load(file);
  } catch (cause) {
    throw new MinikeepError(
      'engine.library_missing',
      `cannot load ${path.basename(file)}: ${cause instanceof Error ? cause.message : String(cause)}`,
      { next: NEXT.setUpSystem, cause },
    );
  }
}

/** Each CPU library scores itself on this processor: 0 means that it can't run here. */
function bestCpu(files: readonly string[]): string {
  let best: { file: string; score: number } | undefined;
  for (const file of files) {
    const library = open(file);
    const score = maker(library)<() => number>('ggml_backend_score', 'int', [])();
    if (score > (best?.score ?? 0)) best = { file, score };
    library.unload();
  }
  if (best !== undefined) return best.file;
  throw new MinikeepError('engine.backend', 'none of the CPU backends runs on this processor', {
    next: NEXT.otherMachine,
  });
}
