/**
 * What an agent and its engine say to each other over the engine's two pipes.
 *
 * Envelope on both pipes: u32 length of what follows (little-endian), u8 channel, payload.
 * Channel 0 carries one JSON message of the types below; channel 1 carries one data-plane frame
 * (packages/protocol/src/frame.ts), which the agent passes on without decoding.
 * The engine is untrusted: the agent checks what comes from it with zod (messages-schema.ts) and within these limits.
 */
import type { SamplingParams } from '@minikeep/protocol';

export const CHANNEL = { control: 0, frame: 1 } as const;
export const ENVELOPE_HEADER_BYTES = 5;
/** A control message: room for the text of a long conversation. */
export const CONTROL_BYTES_MAX = 16 * 1024 * 1024;
/** A control message of an engine that owes no text: log lines, progress, errors. */
export const UNASKED_BYTES_MAX = 256 * 1024;
/** What a text may take that an engine was asked for: a template adds to what it was given, and multiplies it a little. */
export const ANSWER_BYTES_ANYWAY = 1024 * 1024;
export const ANSWER_BYTES_PER_ASKED = 32;

/** llama.cpp's context, equal on all stages of a deployment. */
export interface ContextSettings {
  /** Positions of one sequence; the cache has room for n_seq_max times as many. */
  readonly n_ctx: number;
  /** Rows of one decode at most (n_batch = n_ubatch). */
  readonly n_batch: number;
  /** Sequences at once. */
  readonly n_seq_max: number;
  /** `exact`: no flash attention, a cache per sequence, no prompt chunk of a single row. */
  readonly mode: 'exact' | 'fast';
  readonly threads: number;
  /** Offload to the GPU where there is one (Metal). */
  readonly gpu: boolean;
}

/** Loads one slice and serves it. Paths are the ones that the sandbox's file list allows. */
export interface LoadStage {
  readonly type: 'load_stage';
  /** The slice (a GGUF file). For the whole model in one engine: the model file itself, with first and last true. */
  readonly slice: string;
  /** The one-tensor file of token embeddings; only for the first stage of a split model. */
  readonly embedding?: string;
  readonly first: boolean;
  readonly last: boolean;
  /** Layers of the whole model in this slice: first <= i < end. */
  readonly layers: readonly [number, number];
  /** Spans may ask for the logits of their rows (checks only): makes room for n_batch × n_vocab logits. */
  readonly logits?: boolean;
  readonly context: ContextSettings;
}

/** Loads only vocabulary and template (a GGUF file without tensors), for `text` requests. */
export interface LoadText {
  readonly type: 'load_text';
  readonly file: string;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [extra: string]: unknown;
}

export type TextRequest =
  /** Renders the chat template and tokenizes; special tokens inside users' content stay text. */
  | {
      readonly op: 'chat';
      readonly messages: readonly ChatMessage[];
      readonly add_generation_prompt: boolean;
      /** Unix seconds for templates that ask for the date. */
      readonly now_seconds: number;
      readonly template_arguments?: Readonly<Record<string, unknown>>;
    }
  /** Tokenizes plain text. */
  | {
      readonly op: 'tokenize';
      readonly text: string;
      readonly add_special: boolean;
      readonly parse_special: boolean;
    }
  | { readonly op: 'detokenize'; readonly tokens: readonly number[]; readonly special: boolean };

export type TextResult =
  | {
      readonly op: 'chat';
      readonly tokens: readonly number[];
      readonly prompt: string;
      readonly warnings: readonly string[];
    }
  | { readonly op: 'tokenize'; readonly tokens: readonly number[] }
  | { readonly op: 'detokenize'; readonly text: string };

export type ToEngine =
  | LoadStage
  | LoadText
  | { readonly type: 'text'; readonly id: number; readonly request: TextRequest }
  /** Ends the process in an orderly way. */
  | { readonly type: 'stop' };

/** What the engine really allocated, in bytes. */
export interface EngineMemory {
  readonly weights_bytes: number;
  readonly kv_bytes: number;
  readonly compute_bytes: number;
}

/** Something that llama.cpp can compute on, as the engine sees it. */
export interface EngineDevice {
  readonly name: string;
  readonly description: string;
  readonly kind: 'cpu' | 'gpu' | 'igpu' | 'accel' | 'other';
  /** All of it; of a GPU with Metal what macOS lets it use. 0: not said. */
  readonly memory_bytes: number;
}

export type FromEngine =
  /** First message: the libraries are loaded and their parameter structs are the known ones. */
  | {
      readonly type: 'hello';
      readonly llama_version: string;
      readonly backends: readonly string[];
      readonly devices: readonly EngineDevice[];
    }
  | { readonly type: 'progress'; readonly fraction: number }
  | {
      readonly type: 'ready';
      readonly n_vocab: number;
      readonly n_embd: number;
      readonly n_layer: number;
      readonly memory: EngineMemory;
      readonly load_seconds: number;
    }
  | { readonly type: 'text'; readonly id: number; readonly result: TextResult }
  | { readonly type: 'text_error'; readonly id: number; readonly error: EngineFault }
  /** A step that failed; the engine goes on. */
  | {
      readonly type: 'step_error';
      readonly step: number;
      readonly epoch: number;
      readonly error: EngineFault;
    }
  /** Loading failed or the engine can't go on; it exits after this. */
  | { readonly type: 'fatal'; readonly error: EngineFault }
  /** llama.cpp's own log, level and text as captured (bounded; untrusted text). */
  | {
      readonly type: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly text: string;
    };

export interface EngineFault {
  readonly code: string;
  readonly message: string;
  readonly next: string;
}

export type { SamplingParams };
