/**
 * What an agent believes of what its engine says. The engine runs untrusted files in native code, so every message
 * is checked for shape and size, and its texts are cleaned before anybody sees them.
 */
import { FRAME_EMBD_MAX, MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import type { FromEngine } from './messages.ts';
import { trustedNext } from './next-steps.ts';

const CODE = /^[a-z0-9_]{1,40}\.[a-z0-9_]{1,60}$/;
const LINE_LENGTH_MAX = 4000;
const PROMPT_LENGTH_MAX = 16 * 1024 * 1024;
const TOKENS_MAX = 8 * 1024 * 1024;
const LAYERS_MAX = 4096;
const VOCABULARY_MAX = 16 * 1024 * 1024;

/** One or more lines without control characters (a terminal would obey those); too long is cut. */
const line = z
  .string()
  .transform((text) => text.slice(0, LINE_LENGTH_MAX).replaceAll(/\p{Cc}+/gu, ' '));
const fault = z.object({
  code: z.string().regex(CODE).catch('engine.unknown'),
  message: line,
  next: z.string().transform(trustedNext),
});
const bytes = z.int().min(0);
const id = z.int().min(0);
/** As wide as in a frame and in the agent's own messages. */
const epoch = z.int().min(0).max(0xffff_ffff);
/** One check for the whole list: a fault in each of millions of elements would be millions of faults to describe. */
const tokens = z.custom<number[]>(
  (list) =>
    Array.isArray(list) &&
    list.length <= TOKENS_MAX &&
    list.every((t) => Number.isInteger(t) && t >= 0 && t <= VOCABULARY_MAX),
  'not a list of token ids',
);

const textResult = z.discriminatedUnion('op', [
  z.object({
    op: z.literal('chat'),
    tokens,
    prompt: z.string().max(PROMPT_LENGTH_MAX),
    warnings: z.array(line).max(20),
  }),
  z.object({ op: z.literal('tokenize'), tokens }),
  z.object({ op: z.literal('detokenize'), text: z.string().max(PROMPT_LENGTH_MAX) }),
]);

const fromEngine = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    llama_version: line,
    backends: z.array(line).max(20),
    devices: z
      .array(
        z.object({
          name: line,
          description: line,
          kind: z.enum(['cpu', 'gpu', 'igpu', 'accel', 'other']),
          memory_bytes: z.number().min(0),
        }),
      )
      .max(20)
      .default([]),
  }),
  z.object({ type: z.literal('progress'), fraction: z.number().min(0).max(1) }),
  z.object({
    type: z.literal('ready'),
    n_vocab: z.int().min(0).max(VOCABULARY_MAX),
    n_embd: z.int().min(0).max(FRAME_EMBD_MAX),
    n_layer: z.int().min(0).max(LAYERS_MAX),
    memory: z.object({ weights_bytes: bytes, kv_bytes: bytes, compute_bytes: bytes }),
    load_seconds: z.number().min(0),
  }),
  z.object({ type: z.literal('text'), id, result: textResult }),
  z.object({ type: z.literal('text_error'), id, error: fault }),
  z.object({ type: z.literal('step_error'), step: id, epoch, error: fault }),
  z.object({ type: z.literal('fatal'), error: fault }),
  z.object({
    type: z.literal('log'),
    level: z.enum(['debug', 'info', 'warn', 'error']),
    text: line,
  }),
]);

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const OPENING = new Set([0x5b, 0x7b]);
const CLOSING = new Set([0x5d, 0x7d]);
/** Our messages are flat, with a handful of names. */
const DEPTH_MAX = 8;
const NAMES_MAX = 100;

/** Whether the JSON in these bytes is as simple as ours: building a deep or many-named one takes JSON.parse seconds. */
function isSimple(json: Uint8Array): boolean {
  let depth = 0;
  let names = 0;
  for (let i = 0; i < json.byteLength; i++) {
    const byte = json[i] ?? 0;
    if (byte === QUOTE) i = endOfString(json, i);
    else if (byte === COLON) names++;
    else if (OPENING.has(byte)) depth++;
    else if (CLOSING.has(byte)) depth--;
    if (depth > DEPTH_MAX || names > NAMES_MAX) return false;
  }
  return true;
}

/** Where the string that begins at `start` ends. */
function endOfString(json: Uint8Array, start: number): number {
  for (let i = start + 1; i < json.byteLength; i++) {
    if (json[i] === BACKSLASH) i++;
    else if (json[i] === QUOTE) return i;
  }
  return json.byteLength;
}

/** Throws `engine.pipe` for anything that is not a message of ours. */
export function parseFromEngine(payload: Uint8Array): FromEngine {
  if (!isSimple(payload)) throw wrongMessage('too deep, or with too many names');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (cause) {
    throw wrongMessage('not JSON', cause);
  }
  const parsed = fromEngine.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw wrongMessage(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'wrong'}`);
}

/** The error for whatever an engine may not say. */
export function wrongMessage(what: string, cause?: unknown): MinikeepError {
  return new MinikeepError('engine.pipe', `an engine sent something that is no message: ${what}`, {
    next: 'The engine is faulty or was taken over: look at its violations, then load it again.',
    ...(cause === undefined ? {} : { cause }),
  });
}
