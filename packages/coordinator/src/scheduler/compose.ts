/**
 * What goes into the next step: decode rows first, then prompt chunks in the room that is left.
 *
 * Decoding sequences are dealt out over as many steps as there are stages, so that every stage has work: all of them in
 * one step would leave the other stages idle while it travels. Prompts take turns, and get only a part of a step while
 * somebody decodes, so that nobody's next token waits for a full chunk at every stage.
 */
import type { SequenceOp, Span } from '@minikeep/protocol';
import type { ActiveRequest, SchedulerState, SpanInFlight } from './state.ts';

/** Part of a step's rows that prompts may use while sequences decode. */
const PROMPT_SHARE_WHILE_DECODING = 0.25;
/** … but never fewer rows than this (or the whole step, if that is smaller). */
const PROMPT_ROWS_WHILE_DECODING_MIN = 32;

/** A prompt that has the pipeline for itself goes in about this many chunks for each stage … */
const CHUNKS_A_STAGE = 16;
/** … of at least so many rows, and of a multiple of the unit, for which llama.cpp has faster code. */
const CHUNK_ROWS_MIN = 64;
const CHUNK_ROWS_UNIT = 32;

export interface ComposedStep {
  readonly ops: readonly SequenceOp[];
  readonly spans: readonly Span[];
  readonly tokens: Int32Array;
  readonly owners: readonly SpanInFlight[];
}

interface Part {
  readonly owner: SpanInFlight;
  readonly span: Span;
  readonly tokens: Int32Array;
  readonly open: SequenceOp | undefined;
}

/** Takes work from the active requests for one step; undefined when there is none that may go. */
export function composeStep(state: SchedulerState): ComposedStep | undefined {
  const { config } = state;
  const parts: Part[] = [];
  const decoding = [...state.active.values()].filter(
    (a) => a.promptSent === a.request.prompt.length,
  );
  const share = Math.ceil(decoding.length / config.stages);
  for (const active of byTurn(decoding)) {
    if (parts.length >= Math.min(share, config.nBatch)) break;
    if (active.nextToken !== undefined) parts.push(decodePart(active, active.nextToken, state));
  }
  let room = config.nBatch - parts.length;
  if (decoding.length > 0) room = Math.min(room, promptRowsWhileDecoding(config.nBatch));
  const prompts = [...state.active.values()].filter((a) => a.promptSent < a.request.prompt.length);
  for (const active of byTurn(prompts)) {
    const { length } = active.request.prompt;
    const most = Math.min(room, pipelinedChunkRows(length, config.stages));
    const count = chunkRows(length - active.promptSent, most, config.exact);
    if (count === 0) continue;
    parts.push(promptPart(active, count, state));
    room -= count;
  }
  // Closes wait for a step that goes anyway, unless somebody waits for what they bring back.
  if (parts.length === 0 && state.endings.length === 0 && !state.sweeping) return undefined;
  const ops = [
    ...state.pendingOps.splice(0),
    ...parts.flatMap((part) => (part.open === undefined ? [] : [part.open])),
  ];
  const tokens = new Int32Array(parts.reduce((sum, part) => sum + part.tokens.length, 0));
  let at = 0;
  for (const part of parts) {
    tokens.set(part.tokens, at);
    at += part.tokens.length;
  }
  return { ops, spans: parts.map((p) => p.span), tokens, owners: parts.map((p) => p.owner) };
}

/** Rows of the next chunk; 0: not in this step. In exact mode neither the chunk nor what it leaves is a single row, unless the prompt is one. */
export function chunkRows(remaining: number, room: number, exact: boolean): number {
  if (room < 1) return 0;
  if (remaining <= room) return remaining;
  if (!exact) return room;
  const count = remaining - room === 1 ? room - 1 : room;
  return count < 2 ? 0 : count;
}

/**
 * Rows of a prompt's chunk at most, so that all stages have work: while the first chunk is on its way to the last stage
 * and the last one leaves the first, stages wait, for (stages - 1) of the dearest chunk in all (the last one: attention
 * looks back the farthest). Sixteen chunks a stage keep that below a sixteenth; 64 rows compute as fast as 128 or 256.
 */
export function pipelinedChunkRows(promptTokens: number, stages: number): number {
  if (stages === 1) return Infinity;
  const even = promptTokens / (stages * CHUNKS_A_STAGE);
  return Math.max(CHUNK_ROWS_MIN, Math.ceil(even / CHUNK_ROWS_UNIT) * CHUNK_ROWS_UNIT);
}

export function promptRowsWhileDecoding(nBatch: number): number {
  return Math.min(
    nBatch,
    Math.max(PROMPT_ROWS_WHILE_DECODING_MIN, Math.floor(nBatch * PROMPT_SHARE_WHILE_DECODING)),
  );
}

/** Least recently served first; the order of start decides among equals (sorting is stable). */
function byTurn(requests: ActiveRequest[]): ActiveRequest[] {
  return requests.sort((a, b) => a.servedStep - b.servedStep);
}

function decodePart(active: ActiveRequest, token: number, state: SchedulerState): Part {
  const { request, slot } = active;
  active.nextToken = undefined;
  active.servedStep = state.nextStep;
  // The token sampled last stands behind the prompt and all tokens before it.
  const position = request.prompt.length + active.completionTokens - 1;
  return {
    owner: { id: request.id, slot, count: 1, isPrompt: false, sample: true },
    span: { seq: slot, position, count: 1, sample: true, logits: false, replay: false },
    tokens: Int32Array.of(token),
    open: undefined,
  };
}

function promptPart(active: ActiveRequest, count: number, state: SchedulerState): Part {
  const { request, slot, promptSent: from } = active;
  active.promptSent += count;
  active.servedStep = state.nextStep;
  const sample = active.promptSent === request.prompt.length;
  return {
    owner: { id: request.id, slot, count, isPrompt: true, sample },
    span: { seq: slot, position: from, count, sample, logits: false, replay: false },
    tokens: request.prompt.subarray(from, from + count),
    open: from === 0 ? { op: 'open', seq: slot, sampling: request.sampling } : undefined,
  };
}
