/**
 * The engine: the untrusted process that runs a model file through llama.cpp. It knows one slice (or one vocabulary),
 * reads descriptor 0, writes descriptor 1, and computes; nothing else is needed after `ready`, so nothing else is
 * allowed to it. Arguments: the paths of llama.cpp's libraries.
 */
import {
  decodeFrame,
  encodeFrame,
  MinikeepError,
  toMinikeepError,
  type StepFrame,
} from '@minikeep/protocol';
import { CHANNEL, type EngineFault, type ToEngine } from './messages.ts';
import { openBinding, type Binding } from './native/binding.ts';
import { guardProcess } from './native/guard.ts';
import { leave } from './native/libc.ts';
import { chooseLibraries } from './native/libraries.ts';
import { SyncPipe } from './pipe/sync-pipe.ts';
import { Stage } from './stage/stage.ts';
import { TextEngine } from './text/text-engine.ts';
import { NEXT } from './next-steps.ts';

const MESSAGE_LENGTH_MAX = 4000;
const LOG_MESSAGES_MAX = 200;
/** Between two reports of progress. */
const PROGRESS_STEP = 0.01;
const STATUS = { ok: 0, failed: 1 } as const;

const pipe = new SyncPipe();

function faultOf(thrown: unknown): EngineFault {
  const { code, message, next } = toMinikeepError(thrown);
  return { code, message: message.slice(0, MESSAGE_LENGTH_MAX), next };
}

const control = (payload: Uint8Array): ToEngine =>
  JSON.parse(new TextDecoder().decode(payload)) as ToEngine;

function forwardLog(binding: Binding): void {
  let left = LOG_MESSAGES_MAX;
  binding.log.onProblem((line) => {
    if (left-- > 0) pipe.send({ type: 'log', ...line });
  });
}

/** Reports progress in steps, so that a file of many tensors does not flood the pipe. */
function progressReporter(): (fraction: number) => void {
  let reported = -1;
  return (fraction) => {
    if (fraction - reported < PROGRESS_STEP && fraction < 1) return;
    reported = fraction;
    pipe.send({ type: 'progress', fraction: Math.max(0, Math.min(1, fraction)) });
  };
}

/** Serves steps until the agent says stop or is gone. */
function serveStage(stage: Stage): void {
  let idleSince = performance.now();
  for (;;) {
    const envelope = pipe.read();
    if (envelope === undefined) return;
    if (envelope.channel === CHANNEL.control) {
      if (control(envelope.payload).type === 'stop') return;
      continue;
    }
    const started = performance.now();
    let at = { step: 0, epoch: 0 };
    try {
      const frame = decodeFrame(envelope.payload);
      at = { step: frame.step, epoch: frame.epoch };
      if (frame.kind !== 'step') throw notAStep();
      pipe.sendFrame(answer(stage, frame, started, idleSince));
    } catch (thrown) {
      pipe.send({ type: 'step_error', ...at, error: faultOf(thrown) });
    }
    idleSince = performance.now();
  }
}

function notAStep(): MinikeepError {
  return new MinikeepError('frame.malformed', 'a result frame was sent to an engine', {
    next: NEXT.wrongSender,
  });
}

function answer(stage: Stage, frame: StepFrame, started: number, idleSince: number): Uint8Array {
  const result = stage.step(frame);
  const timing = {
    computeMicros: (performance.now() - started) * 1000,
    waitMicros: (started - idleSince) * 1000,
  };
  return encodeFrame({ ...result, timings: [...result.timings, timing] });
}

function serveText(text: TextEngine): void {
  for (;;) {
    const envelope = pipe.read();
    if (envelope === undefined) return;
    if (envelope.channel !== CHANNEL.control) continue;
    const message = control(envelope.payload);
    if (message.type === 'stop') return;
    if (message.type !== 'text') continue;
    const { id, request } = message;
    try {
      pipe.send({ type: 'text', id, result: text.answer(request) });
    } catch (thrown) {
      pipe.send({ type: 'text_error', id, error: faultOf(thrown) });
    }
  }
}

async function main(): Promise<void> {
  guardProcess();
  const binding = openBinding(chooseLibraries(process.argv.slice(2)));
  const { version, backends, devices } = binding;
  pipe.send({ type: 'hello', llama_version: version, backends, devices });
  forwardLog(binding);
  const first = pipe.read();
  if (first === undefined) return;
  const load = control(first.payload);
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  if (load.type === 'load_stage') {
    const stage = await Stage.open(binding, load, progressReporter());
    stage.warmUp();
    pipe.send({ type: 'ready', ...stage.info, load_seconds: seconds() });
    serveStage(stage);
  } else if (load.type === 'load_text') {
    const text = TextEngine.open(binding, load.file);
    text.warmUp();
    pipe.send({ type: 'ready', ...text.info, load_seconds: seconds() });
    serveText(text);
  }
}

try {
  await main();
  leave(STATUS.ok);
} catch (thrown) {
  try {
    pipe.send({ type: 'fatal', error: faultOf(thrown) });
  } finally {
    leave(STATUS.failed);
  }
}
