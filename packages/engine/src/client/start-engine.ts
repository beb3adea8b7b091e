/** Starts an engine in a sandbox, loads what it is for, and closes the sandbox around it before it is used. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SandboxPlatform, SandboxSpec } from '@minikeep/containment';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { LOOK_MS, Patience, type PatienceLimits } from '@minikeep/protocol/patience';
import type { LoadStage, LoadText } from '../messages.ts';
import {
  EngineClient,
  EngineLink,
  type EngineEvent,
  type HelloMessage,
  type Milestones,
  type ReadyMessage,
} from './engine-client.ts';

/** Node starts and fourteen libraries are scored: short, but a busy machine may be slow. No model was read yet. */
const HELLO_PATIENCE: PatienceLimits = { silence_ms_max: 30_000, total_ms_max: 300_000 };
/** Loading has no end that is known beforehand, but it makes progress. */
const PROGRESS_TIMEOUT_MS = 120_000;
const LOAD_TIMEOUT_MS = 3_600_000;
const LIBRARY = /^lib.*\.(so|dylib)$/;

export interface StartEngine {
  readonly platform: SandboxPlatform;
  readonly load: LoadStage | LoadText;
  /** Files besides those named in `load` (the other parts of a split model). */
  readonly files?: readonly string[];
  readonly onEvent?: (event: EngineEvent) => void;
  /** Ends the start: the engine is killed, and the promise rejects with `engine.start_cancelled`. */
  readonly signal?: AbortSignal;
  /** The folder of the programs; where this program itself lies unless given. */
  readonly programs?: string;
  readonly limits?: SandboxSpec['limits'];
  /** What becomes of it when it tries what it may not; default: it is recorded. */
  readonly policy?: SandboxSpec['policy'];
}

/** The folder with engine.mjs and lib/: beside this bundle, or dist/ when run from source. */
export function programsFolder(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  if (existsSync(path.join(here, 'engine.mjs'))) return here;
  return path.resolve(here, '../../../../dist');
}

/** Absolute paths of llama.cpp's libraries. Throws `engine.library_missing`. */
export function engineLibraries(programs = programsFolder()): string[] {
  const folder = path.join(programs, 'lib');
  if (existsSync(folder)) {
    const names = readdirSync(folder).filter((name) => LIBRARY.test(name));
    if (names.length > 0) return names.sort().map((name) => path.join(folder, name));
  }
  throw new MinikeepError('engine.library_missing', `no engine libraries in ${folder}`, {
    next: 'Set up with `npm run build`.',
  });
}

/**
 * Resolves with an engine that has loaded and is sealed. Rejects with the engine's own error, `engine.timeout`,
 * `engine.gone`, `engine.start_cancelled`, or what the sandbox refuses; no process is left then.
 */
export async function startEngine(options: StartEngine): Promise<EngineClient> {
  const { load, signal } = options;
  const programs = options.programs ?? programsFolder();
  throwIfCancelled(signal);
  const sandbox = await options.platform.launch({
    purpose: load.type === 'load_text' ? 'text' : 'stage',
    entry: path.join(programs, 'engine.mjs'),
    args: engineLibraries(programs),
    files: [...filesOf(load), ...(options.files ?? [])],
    library_dir: path.join(programs, 'lib'),
    env: { GGML_NO_BACKTRACE: '1' },
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(options.policy === undefined ? {} : { policy: options.policy }),
  });
  const start = new Start(options.onEvent ?? (() => {}));
  const link = new EngineLink(sandbox, start.onEvent, start.milestones);
  const cancel = (): void => start.fail(cancelled());
  signal?.addEventListener('abort', cancel);
  try {
    throwIfCancelled(signal);
    const hello = await start.greeted(sandbox.pid);
    await link.control(load);
    const ready = await start.loaded();
    await sandbox.seal();
    link.sealed = true;
    throwIfCancelled(signal);
    // One that went while the sandbox closed has said so already, to nobody who knew it.
    link.throwIfGone();
    return new EngineClient(link, hello, ready);
  } catch (thrown) {
    link.stopping = true;
    const error = toMinikeepError(thrown);
    await sandbox.kill(error.message);
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
    start.close();
  }
}

const filesOf = (load: LoadStage | LoadText): string[] =>
  load.type === 'load_text'
    ? [load.file]
    : [load.slice, ...(load.embedding === undefined ? [] : [load.embedding])];

/** The way from the process's start to `ready`, with its time limits. */
class Start {
  readonly milestones: Milestones;
  readonly onEvent: (event: EngineEvent) => void;
  readonly #hello = Promise.withResolvers<HelloMessage>();
  readonly #ready = Promise.withResolvers<ReadyMessage>();
  #progressAt = performance.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(onEvent: (event: EngineEvent) => void) {
    // Each is awaited only in its turn; a failure before that is not an unhandled one.
    this.#hello.promise.catch(() => {});
    this.#ready.promise.catch(() => {});
    this.milestones = {
      hello: (message) => this.#hello.resolve(message),
      ready: (message) => this.#ready.resolve(message),
      fatal: (error) => this.fail(error),
    };
    this.onEvent = (event) => {
      if (event.type === 'progress') this.#progressAt = performance.now();
      onEvent(event);
    };
  }

  fail(error: MinikeepError): void {
    this.#hello.reject(error);
    this.#ready.reject(error);
  }

  /** `pid`: the engine's. */
  async greeted(pid: number): Promise<HelloMessage> {
    const patience = new Patience(HELLO_PATIENCE, performance.now());
    patience.progress(pid);
    this.#timer = setInterval(() => {
      const verdict = patience.look(performance.now());
      if (verdict === 'silent')
        this.fail(timeout('did nothing, and did not start,', HELLO_PATIENCE.silence_ms_max));
      if (verdict === 'too long') this.fail(timeout('did not start', HELLO_PATIENCE.total_ms_max));
    }, LOOK_MS);
    const hello = await this.#hello.promise;
    this.close();
    return hello;
  }

  async loaded(): Promise<ReadyMessage> {
    const began = performance.now();
    this.#progressAt = began;
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (now - this.#progressAt > PROGRESS_TIMEOUT_MS)
        this.fail(timeout('made no progress while loading', PROGRESS_TIMEOUT_MS));
      if (now - began > LOAD_TIMEOUT_MS)
        this.fail(timeout('did not finish loading', LOAD_TIMEOUT_MS));
    }, 1000);
    return this.#ready.promise;
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled();
}

const cancelled = (): MinikeepError =>
  new MinikeepError('engine.start_cancelled', 'the start of an engine was cancelled', {
    next: 'Run the command again.',
  });

const timeout = (what: string, ms: number): MinikeepError =>
  new MinikeepError('engine.timeout', `the engine ${what} within ${ms / 1000} s`, {
    next: 'Check that this node is not overloaded and has memory left, then try again.',
  });
