/**
 * The scheduler: events in, effects out. It keeps the pipeline full with at most one step per stage in flight.
 * `step` takes over the state that it is given and returns it; nothing else may write to it.
 *
 * Invariants: a sequence has at most one decode row in flight; its prompt chunks go out in order; a slot is opened
 * after it was closed (operations keep their order, and so do steps); results come back in the order of sending.
 */
import { MinikeepError, type StepOutput } from '@minikeep/protocol';
import { composeStep } from './compose.ts';
import { learnStepTime, silenceLimitMs } from './silence.ts';
import type { ActiveRequest, SchedulerState, StepInFlight } from './state.ts';
import type {
  RequestSummary,
  SchedulerEffect,
  SchedulerEvent,
  SchedulerFinish,
  SchedulerRequest,
} from './types.ts';

export interface SchedulerStep {
  readonly state: SchedulerState;
  readonly effects: readonly SchedulerEffect[];
}

export function step(state: SchedulerState, event: SchedulerEvent): SchedulerStep {
  const effects: SchedulerEffect[] = [];
  switch (event.type) {
    case 'submit':
      submit(state, event.request, event.nowMs, effects);
      break;
    case 'cancel':
      cancel(state, event.id);
      break;
    case 'result':
      result(state, event, effects);
      break;
    case 'step_failed':
      stepFailed(state, event, effects);
      break;
    case 'tick':
      tick(state, event.nowMs, effects);
      break;
    case 'sweep':
      sweep(state);
      break;
    case 'still_working':
      state.lookedMs = event.nowMs;
      state.stalledReported = false;
      break;
    case 'fail':
      failAll(state, event.error, effects);
      break;
  }
  if (!state.failed) fill(state, event.nowMs, effects);
  return { state, effects };
}

function submit(
  state: SchedulerState,
  request: SchedulerRequest,
  nowMs: number,
  effects: SchedulerEffect[],
): void {
  if (state.failed)
    return void effects.push({ type: 'failed', id: request.id, error: pipelineGone() });
  if (state.queue.length >= state.config.queueMax)
    return void effects.push({ type: 'failed', id: request.id, error: queueFull(state) });
  state.queue.push({ request, submittedMs: nowMs });
}

/** Before the first request: what the sequences hold is of requests that nobody remembers. */
function sweep(state: SchedulerState): void {
  for (let seq = 0; seq < state.config.nSeqMax; seq++) state.pendingOps.push({ op: 'close', seq });
  state.sweeping = true;
}

/** Forgets the request. Its steps in flight come back to nobody; its slot is closed behind them. */
function cancel(state: SchedulerState, id: number): void {
  const queued = state.queue.findIndex((q) => q.request.id === id);
  if (queued >= 0) state.queue.splice(queued, 1);
  const active = state.active.get(id);
  if (active !== undefined) end(state, active);
}

function result(
  state: SchedulerState,
  event: Extract<SchedulerEvent, { type: 'result' }>,
  effects: SchedulerEffect[],
): void {
  const back = takeOldest(state, event.step, event.nowMs, effects);
  if (back === undefined) return;
  if (back.sweeps) effects.push({ type: 'swept' });
  if (back.rows > 0) learnStepTime(state, back.rows, event.nowMs - back.sentMs);
  for (const { id, slot, token, text, summary } of back.endings) {
    const held = event.outputs.find((output) => output.seq === slot && output.token < 0);
    const whole = held === undefined ? text : Buffer.concat([text, held.text]);
    effects.push({ type: 'token', id, counts: true, token, text: whole });
    effects.push({ type: 'done', id, finish: 'length', summary });
  }
  const outputs = new Map(event.outputs.map((output) => [output.seq, output]));
  for (const span of back.spans) {
    const active = state.active.get(span.id);
    if (active === undefined) continue;
    for (const [i, use] of active.stages.entries()) {
      const timing = event.timings[i];
      use.computeMicros += ((timing?.computeMicros ?? 0) * span.count) / back.rows;
      use.waitMicros += ((timing?.waitMicros ?? 0) * span.count) / back.rows;
    }
    if (span.isPrompt) {
      active.promptDone += span.count;
      effects.push({
        type: 'prefill',
        id: span.id,
        doneTokens: active.promptDone,
        totalTokens: active.request.prompt.length,
      });
    }
    if (!span.sample) continue;
    const output = outputs.get(span.slot);
    if (output === undefined || output.token < 0) {
      end(state, active);
      effects.push({ type: 'failed', id: span.id, error: noOutput(event.step) });
    } else sampled(state, active, output, event.nowMs, effects);
  }
}

function sampled(
  state: SchedulerState,
  active: ActiveRequest,
  output: StepOutput,
  nowMs: number,
  effects: SchedulerEffect[],
): void {
  const { id, prompt, maxTokens } = active.request;
  if (active.firstTokenMs < 0) active.firstTokenMs = nowMs;
  active.lastTokenMs = nowMs;
  const counts = output.finish !== 'eog';
  if (counts) active.completionTokens++;
  let finish: SchedulerFinish | undefined;
  if (output.finish !== 'none') finish = 'stop';
  else if (active.completionTokens >= maxTokens) finish = 'length';
  // The new token's own place would be the first one behind the context.
  else if (prompt.length + active.completionTokens > state.config.contextTokens) finish = 'length';
  const { token, text } = output;
  if (finish === 'length') {
    end(state, active);
    state.endings.push({ id, slot: active.slot, token, text, summary: summaryOf(active, nowMs) });
    return;
  }
  effects.push({ type: 'token', id, counts, token, text });
  if (finish === undefined) {
    active.nextToken = token;
    return;
  }
  end(state, active);
  effects.push({ type: 'done', id, finish, summary: summaryOf(active, nowMs) });
}

function stepFailed(
  state: SchedulerState,
  event: Extract<SchedulerEvent, { type: 'step_failed' }>,
  effects: SchedulerEffect[],
): void {
  // The stages after the one that refused never see this step: it is out of the order.
  const index = state.inFlight.findIndex((s) => s.step === event.step);
  const [failed] = index < 0 ? [] : state.inFlight.splice(index, 1);
  if (failed === undefined) return;
  state.progressMs = event.nowMs;
  // The stages behind the one that refused did not see its operations; closing twice does no harm, but a slot that
  // was opened anew since then is another sequence's.
  const taken = new Set(
    [...state.active.values()].filter((a) => a.promptSent > 0).map((a) => a.slot),
  );
  for (const close of failed.closes)
    if (!taken.has(close.seq) && !state.pendingOps.some((op) => op.seq === close.seq))
      state.pendingOps.push(close);
  // A step that only closes asks nothing that could be refused: whoever refuses it refuses the next one too.
  if (failed.rows > 0) state.endings.push(...failed.endings);
  else
    for (const { id } of failed.endings) effects.push({ type: 'failed', id, error: event.error });
  for (const { id } of failed.spans) {
    const active = state.active.get(id);
    if (active === undefined) continue;
    end(state, active);
    effects.push({ type: 'failed', id, error: event.error });
  }
}

function tick(state: SchedulerState, nowMs: number, effects: SchedulerEffect[]): void {
  const [oldest] = state.inFlight;
  if (oldest === undefined || state.stalledReported) return;
  // Looked at again and again, while the whole silence is told: even one that computes may not do so for ever.
  if (nowMs - Math.max(state.progressMs, state.lookedMs) <= silenceLimitMs(state)) return;
  state.stalledReported = true;
  effects.push({ type: 'stalled', step: oldest.step, silentMs: nowMs - state.progressMs });
}

function failAll(state: SchedulerState, error: MinikeepError, effects: SchedulerEffect[]): void {
  if (state.failed) return;
  state.failed = true;
  const endings = [...state.inFlight.flatMap((s) => s.endings), ...state.endings];
  const ids = [
    ...endings.map((ending) => ending.id),
    ...state.active.keys(),
    ...state.queue.map((q) => q.request.id),
  ];
  state.active.clear();
  state.endings.length = 0;
  state.queue.length = 0;
  state.inFlight.length = 0;
  for (const id of ids) effects.push({ type: 'failed', id, error });
}

/** Starts queued requests in free slots, then sends steps until the pipeline is full or there is no work. */
function fill(state: SchedulerState, nowMs: number, effects: SchedulerEffect[]): void {
  while (state.queue.length > 0 && state.freeSlots.length > 0) {
    const next = state.queue.shift();
    const slot = state.freeSlots.shift();
    if (next === undefined || slot === undefined) break;
    state.active.set(next.request.id, {
      request: next.request,
      slot,
      submittedMs: next.submittedMs,
      startedMs: nowMs,
      promptSent: 0,
      promptDone: 0,
      nextToken: undefined,
      completionTokens: 0,
      firstTokenMs: -1,
      lastTokenMs: -1,
      servedStep: 0,
      stages: Array.from({ length: state.config.stages }, () => ({
        computeMicros: 0,
        waitMicros: 0,
      })),
    });
    effects.push({ type: 'started', id: next.request.id, slot });
  }
  while (state.inFlight.length < state.config.stages) {
    const composed = composeStep(state);
    if (composed === undefined) return;
    const number = state.nextStep++;
    if (state.inFlight.length === 0) state.progressMs = nowMs;
    state.inFlight.push({
      step: number,
      spans: composed.owners,
      closes: composed.ops.filter((op) => op.op === 'close'),
      endings: state.endings.splice(0),
      sweeps: state.sweeping,
      rows: composed.tokens.length,
      sentMs: nowMs,
    });
    state.sweeping = false;
    const { ops, spans, tokens } = composed;
    effects.push({ type: 'send', step: number, ops, spans, tokens });
  }
}

/** Removes the oldest step in flight, which must be the one that came back. */
function takeOldest(
  state: SchedulerState,
  number: number,
  nowMs: number,
  effects: SchedulerEffect[],
): StepInFlight | undefined {
  const [oldest] = state.inFlight;
  if (oldest === undefined || oldest.step !== number) {
    if (!state.failed) failAll(state, outOfOrder(number, oldest?.step), effects);
    return undefined;
  }
  state.inFlight.shift();
  state.progressMs = nowMs;
  state.stalledReported = false;
  return oldest;
}

/** Ends a sequence: its slot is closed with the next step and free from now on. */
function end(state: SchedulerState, active: ActiveRequest): void {
  state.active.delete(active.request.id);
  // A slot whose sequence was never opened has nothing to close.
  if (active.promptSent > 0) state.pendingOps.push({ op: 'close', seq: active.slot });
  state.freeSlots.push(active.slot);
}

function summaryOf(active: ActiveRequest, nowMs: number): RequestSummary {
  return {
    promptTokens: active.request.prompt.length,
    completionTokens: active.completionTokens,
    queueMs: active.startedMs - active.submittedMs,
    firstTokenMs: active.firstTokenMs < 0 ? -1 : active.firstTokenMs - active.startedMs,
    decodeMs: active.lastTokenMs - active.firstTokenMs,
    totalMs: nowMs - active.submittedMs,
    stages: active.stages.map((use) => ({
      computeSeconds: use.computeMicros / 1e6,
      waitSeconds: use.waitMicros / 1e6,
    })),
  };
}

function pipelineGone(): MinikeepError {
  return new MinikeepError('deployment.failed', 'the deployment has failed', {
    next: 'See why with `minikeep status`, then deploy again with `minikeep up`.',
  });
}

function queueFull(state: SchedulerState): MinikeepError {
  return new MinikeepError(
    'generate.queue_full',
    `${state.queue.length} requests are already waiting`,
    { next: 'Try again when some of them have ended.' },
  );
}

function noOutput(number: number): MinikeepError {
  return new MinikeepError('pipeline.malformed', `step ${number} came back without its token`, {
    next: 'The last stage runs another version or is faulty: deploy again.',
  });
}

function outOfOrder(got: number, expected: number | undefined): MinikeepError {
  const wanted = expected === undefined ? 'none was in flight' : `${expected} was due`;
  return new MinikeepError('pipeline.malformed', `step ${got} came back, but ${wanted}`, {
    next: 'A stage runs another version or is faulty: deploy again.',
  });
}
