/** Loads one GGUF file into llama.cpp with a context and a pool of threads, and says what that took. */
import koffi from 'koffi';
import { MinikeepError } from '@minikeep/protocol';
import type { ContextSettings, EngineMemory } from '../messages.ts';
import { ProgressCallback, type Address, type Fields } from '../native/abi.ts';
import type { Binding } from '../native/binding.ts';
import { bufferBytes, type LogLine } from '../native/log.ts';
import { NEXT } from '../next-steps.ts';

const FLASH_ATTENTION = { auto: -1, off: 0 } as const;
/**
 * Threads of a pool sleep as soon as a graph is done. llama.cpp's default (50) lets them spin on, which takes the
 * cores from the other stages: on one machine stages take turns.
 */
export const POLL = 0;
const SEQUENCES_MAX = 256;

export interface ContextExtras {
  /** For `cb_eval`; undefined: none. */
  readonly watch: Address | undefined;
  /** Rows of one decode that may be outputs. */
  readonly outputs: number;
}

export interface ModelOptions {
  readonly gpu: boolean;
  readonly vocabularyOnly: boolean;
  /** Weights may be laid out anew for faster kernels, whose results depend on how many rows there are. */
  readonly repack: boolean;
}

export interface LoadedContext {
  readonly context: Address;
  readonly memory: EngineMemory;
  /** Frees context, threads and model. */
  readonly free: () => void;
}

/** Throws `engine.load_failed` with llama.cpp's own last error. `progress` gets 0 to 1. */
export function loadModel(
  binding: Binding,
  file: string,
  options: ModelOptions,
  progress: (fraction: number) => void,
): Address {
  const callback = koffi.register((fraction: number) => {
    progress(fraction);
    return true;
  }, koffi.pointer(ProgressCallback));
  try {
    const model = binding.loadModel(file, {
      ...binding.modelDefaults(),
      vocab_only: options.vocabularyOnly,
      use_extra_bufts: options.repack,
      n_gpu_layers: options.gpu ? -1 : 0,
      progress_callback: callback,
    });
    if (!model) throw failed(binding, 'engine.load_failed', 'the file could not be loaded');
    return model;
  } finally {
    koffi.unregister(callback);
  }
}

/** Throws `engine.context_failed` (usually: not enough memory for the cache). */
export function newContext(
  binding: Binding,
  model: Address,
  settings: ContextSettings,
  extras: ContextExtras,
): LoadedContext {
  if (settings.n_seq_max > SEQUENCES_MAX)
    throw new MinikeepError(
      'engine.context_failed',
      `${settings.n_seq_max} sequences; llama.cpp allows ${SEQUENCES_MAX}`,
      { next: NEXT.fewerSequences },
    );
  const context = binding.newContext(model, contextParams(binding, settings, extras));
  if (!context) throw failed(binding, 'engine.context_failed', 'no context could be made');
  const lines: LogLine[] = binding.log.drain();
  const pool = attachThreads(binding, context, settings.threads);
  const free = (): void => {
    binding.freeContext(context);
    binding.poolFree(pool);
    binding.freeModel(model);
  };
  return { context, memory: bufferBytes(lines), free };
}

/** The settings as llama.cpp takes them. */
export function contextParams(
  binding: Binding,
  settings: ContextSettings,
  extras: ContextExtras,
): Fields {
  const exact = settings.mode === 'exact';
  return {
    ...binding.contextDefaults(),
    n_ctx: settings.n_ctx * settings.n_seq_max,
    n_batch: settings.n_batch,
    n_ubatch: settings.n_batch,
    n_seq_max: settings.n_seq_max,
    n_outputs_max: extras.outputs,
    n_threads: settings.threads,
    n_threads_batch: settings.threads,
    flash_attn_type: exact ? FLASH_ATTENTION.off : FLASH_ATTENTION.auto,
    kv_unified: !exact,
    // A small window cache is a ring whose order depends on how the prompt was cut: not exact.
    swa_full: exact,
    offload_kqv: settings.gpu,
    op_offload: settings.gpu,
    ...(extras.watch === undefined ? {} : { cb_eval: extras.watch }),
  };
}

/** Without a pool llama.cpp starts new threads for every decode, which the sealed sandbox refuses. */
function attachThreads(binding: Binding, context: Address, threads: number): Address {
  const pool = binding.poolNew({ ...binding.poolDefaults(threads), poll: POLL });
  if (!pool)
    throw new MinikeepError('engine.threads', `no pool of ${threads} threads could be started`, {
      next: NEXT.fewerThreads,
    });
  binding.attachPool(context, pool, null);
  return pool;
}

function failed(binding: Binding, code: string, what: string): MinikeepError {
  const said = binding.log.problem();
  return new MinikeepError(code, said === '' ? what : `${what}: ${said}`, {
    next: NEXT.checkFile,
  });
}
