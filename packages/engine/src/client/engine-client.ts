/**
 * The agent's side of one engine: its pipes, its requests for text, its end. Trusts nothing that comes out of it.
 */
import { once } from 'node:events';
import type { Sandbox, SandboxExit, Violation } from '@minikeep/containment';
import { MinikeepError } from '@minikeep/protocol';
import {
  ANSWER_BYTES_ANYWAY,
  ANSWER_BYTES_PER_ASKED,
  CHANNEL,
  CONTROL_BYTES_MAX,
  type EngineFault,
  type FromEngine,
  type TextRequest,
  type TextResult,
  type ToEngine,
  UNASKED_BYTES_MAX,
} from '../messages.ts';
import { parseFromEngine, wrongMessage } from '../messages-schema.ts';
import { encodeControl, envelopeHeader, EnvelopeReader, type Channel } from '../pipe/envelope.ts';

export type ReadyMessage = Extract<FromEngine, { type: 'ready' }>;
export type HelloMessage = Extract<FromEngine, { type: 'hello' }>;

export type EngineEvent =
  | { readonly type: 'progress'; readonly fraction: number }
  | Extract<FromEngine, { type: 'log' }>
  | Extract<FromEngine, { type: 'step_error' }>
  | { readonly type: 'violation'; readonly violation: Violation }
  /** `error` says why; undefined when the end was asked for. */
  | {
      readonly type: 'exited';
      readonly exit: SandboxExit;
      readonly error: MinikeepError | undefined;
    };

/** Kept for `violations`; the sandbox stops an engine long before. */
const VIOLATIONS_KEPT_MAX = 1000;
const TEXT_REQUESTS_MAX = 256;
const TEXT_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 3_000;

interface Waiting {
  readonly op: TextRequest['op'];
  readonly resolve: (result: TextResult) => void;
  readonly reject: (error: MinikeepError) => void;
  readonly timer: NodeJS.Timeout;
  readonly answerBytesMax: number;
}

export interface Milestones {
  readonly hello: (message: HelloMessage) => void;
  readonly ready: (message: ReadyMessage) => void;
  readonly fatal: (error: MinikeepError) => void;
}

/** Made by `startEngine`. */
export class EngineClient {
  /** What the engine said first: its llama.cpp. */
  readonly hello: HelloMessage;
  /** What the engine said when it had loaded. */
  readonly ready: ReadyMessage;
  readonly #link: EngineLink;

  constructor(link: EngineLink, hello: HelloMessage, ready: ReadyMessage) {
    this.#link = link;
    this.hello = hello;
    this.ready = ready;
  }

  /** Random, per start: names the sandbox. */
  get instance(): string {
    return this.#link.sandbox.instance;
  }

  get pid(): number {
    return this.#link.sandbox.pid;
  }

  /** Resolves when the engine is gone, however that came about. Never rejects. */
  get exited(): Promise<SandboxExit> {
    return this.#link.sandbox.exited;
  }

  get violations(): readonly Violation[] {
    return this.#link.violations;
  }

  /** The files that the sandbox handed to the engine. */
  get filesRead(): readonly string[] {
    return this.#link.sandbox.filesRead;
  }

  /**
   * Sends one data-plane frame. Resolves when the pipe has room again: wait for it before the next one. Rejects with
   * `engine.gone` when the engine is.
   */
  sendFrame(frame: Uint8Array): Promise<void> {
    return this.#link.send(CHANNEL.frame, frame);
  }

  /**
   * Called for each frame that comes out, one at a time: while the promise that it returns is pending, nothing more
   * is read, and in the end the engine waits. Set it before the first `sendFrame`.
   */
  onFrame(listener: (frame: Uint8Array) => void | Promise<void>): void {
    this.#link.onFrame = listener;
  }

  /** Asks a text engine. Rejects with the engine's own error, `engine.text_timeout` (the engine is then ended) or `engine.gone`. */
  text<R extends TextRequest>(
    request: R,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<Extract<TextResult, { op: R['op'] }>> {
    return this.#link.text(request, options.timeoutMs ?? TEXT_TIMEOUT_MS) as Promise<
      Extract<TextResult, { op: R['op'] }>
    >;
  }

  /** Asks the engine to end, and ends it if it does not within three seconds. */
  async stop(): Promise<SandboxExit> {
    this.#link.stopping = true;
    const timer = setTimeout(() => void this.kill('it did not stop when asked'), STOP_TIMEOUT_MS);
    // Not waited for: a pipe that nobody reads never has room, and one that is gone means that the engine is, too.
    this.#link.control({ type: 'stop' }).catch(() => {});
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Why attempts of it may go unseen now; empty while its monitor sees. */
  blind(): string {
    return this.#link.sandbox.blind?.() ?? '';
  }

  /** Ends the engine at once. */
  kill(reason: string): Promise<SandboxExit> {
    this.#link.stopping = true;
    return this.#link.sandbox.kill(reason);
  }
}

/** The running engine before it is ready, and the machinery behind a client. */
export class EngineLink {
  readonly sandbox: Sandbox;
  readonly violations: Violation[] = [];
  onFrame: (frame: Uint8Array) => void | Promise<void> = () => {};
  /** Set when the end is wanted, so that it is not reported as a failure. */
  stopping = false;
  /** It is ready, and reads what people write. */
  sealed = false;
  readonly #reader = new EnvelopeReader(() => this.#controlBytesMax());
  readonly #onEvent: (event: EngineEvent) => void;
  readonly #milestones: Milestones;
  readonly #texts = new Map<number, Waiting>();
  #nextId = 1;
  #gone: MinikeepError | undefined;
  #fatal: MinikeepError | undefined;

  constructor(sandbox: Sandbox, onEvent: (event: EngineEvent) => void, milestones: Milestones) {
    this.sandbox = sandbox;
    this.#onEvent = onEvent;
    this.#milestones = milestones;
    sandbox.onViolation((violation) => {
      if (this.violations.length < VIOLATIONS_KEPT_MAX) this.violations.push(violation);
      onEvent({ type: 'violation', violation });
    });
    // Errors of the pipes mean the end of the process, which `exited` reports with its reason.
    sandbox.input.on('error', () => {});
    sandbox.output.on('error', () => {});
    void this.#pump();
    void sandbox.exited.then((exit) => this.#ended(exit));
  }

  /** Throws why the engine is gone, if it is. */
  throwIfGone(): void {
    if (this.#gone !== undefined) throw this.#gone;
  }

  async send(channel: Channel, payload: Uint8Array): Promise<void> {
    if (this.#gone !== undefined) throw this.#gone;
    const { input } = this.sandbox;
    if (!input.writable) throw goneError('its pipe is closed');
    // Header and payload in one system call: the engine wakes once.
    input.cork();
    input.write(envelopeHeader(channel, payload.byteLength));
    const room = input.write(payload);
    input.uncork();
    if (room) return;
    const waiting = new AbortController();
    try {
      await Promise.race([
        once(input, 'drain', { signal: waiting.signal }),
        once(input, 'close', { signal: waiting.signal }),
      ]);
    } catch (cause) {
      throw this.#gone ?? goneError('its pipe broke', cause);
    } finally {
      waiting.abort();
    }
    if (!input.writable) throw this.#gone ?? goneError('its pipe is closed');
  }

  async control(message: ToEngine): Promise<void> {
    return this.send(CHANNEL.control, encodeControl(message));
  }

  async text(request: TextRequest, timeoutMs: number): Promise<TextResult> {
    if (this.#gone !== undefined) throw this.#gone;
    if (this.#texts.size >= TEXT_REQUESTS_MAX)
      throw new MinikeepError('engine.busy', 'too many texts are waiting for the text engine', {
        next: 'Wait a moment and try again.',
      });
    const id = this.#nextId++;
    const message = encodeControl({ type: 'text', id, request } satisfies ToEngine);
    const answerBytesMax = ANSWER_BYTES_ANYWAY + ANSWER_BYTES_PER_ASKED * message.byteLength;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#texts.delete(id);
        reject(
          new MinikeepError(
            'engine.text_timeout',
            `the text engine gave no answer within ${timeoutMs / 1000} s and was ended`,
            {
              next: 'The chat template may loop for ever: use --raw, or another file of this model.',
            },
          ),
        );
        void this.sandbox.kill('a text request took too long');
      }, timeoutMs);
      this.#texts.set(id, { op: request.op, resolve, reject, timer, answerBytesMax });
      this.send(CHANNEL.control, message).catch((error: unknown) => {
        this.#settle(id)?.reject(error instanceof MinikeepError ? error : goneError('', error));
      });
    });
  }

  async #pump(): Promise<void> {
    try {
      for await (const chunk of this.sandbox.output)
        for (const { channel, payload } of this.#reader.push(chunk as Uint8Array))
          if (channel === CHANNEL.frame) await this.onFrame(payload);
          else this.#take(parseFromEngine(payload));
    } catch (thrown) {
      if (this.stopping || this.#gone !== undefined) return;
      this.#fatal = thrown instanceof MinikeepError ? thrown : goneError('its pipe broke', thrown);
      await this.sandbox.kill(this.#fatal.message);
    }
  }

  #take(message: FromEngine): void {
    switch (message.type) {
      case 'hello':
        this.#milestones.hello(message);
        return;
      case 'ready':
        this.#milestones.ready(message);
        return;
      case 'fatal':
        this.#fatal = errorOf(message.error);
        this.#milestones.fatal(this.#fatal);
        return;
      case 'text':
        this.#answered(message.id, message.result);
        return;
      case 'text_error':
        this.#settle(message.id)?.reject(errorOf(message.error));
        return;
      case 'progress':
      case 'log':
      case 'step_error':
        this.#onEvent(message);
    }
  }

  /** Parsing takes time and memory: an engine gets only as much of the agent's as it was asked for. */
  #controlBytesMax(): number {
    const asked = [...this.#texts.values()].map((waiting) => waiting.answerBytesMax);
    return Math.min(CONTROL_BYTES_MAX, Math.max(UNASKED_BYTES_MAX, ...asked));
  }

  #answered(id: number, result: TextResult): void {
    const waiting = this.#settle(id);
    if (waiting === undefined || waiting.op === result.op) {
      waiting?.resolve(result);
      return;
    }
    const error = wrongMessage(`'${result.op}' as the answer to '${waiting.op}'`);
    waiting.reject(error);
    throw error;
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#texts.get(id);
    this.#texts.delete(id);
    clearTimeout(waiting?.timer);
    return waiting;
  }

  #ended(exit: SandboxExit): void {
    const error = this.#fatal ?? exitError(exit, this.sealed);
    this.#gone = error;
    for (const id of this.#texts.keys()) this.#settle(id)?.reject(error);
    this.#milestones.fatal(error);
    this.#onEvent({ type: 'exited', exit, error: this.stopping ? undefined : error });
  }
}

const errorOf = (fault: EngineFault): MinikeepError =>
  new MinikeepError(fault.code, fault.message, { next: fault.next });

function goneError(what: string, cause?: unknown): MinikeepError {
  return new MinikeepError('engine.gone', `the engine is gone: ${what}`, {
    next: 'Load the deployment again.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * Why an engine ended, in the words of its sandbox and, while it loaded, the end of its own stderr. Later it may have read
 * a prompt, and what it says could carry it into a log.
 */
function exitError(exit: SandboxExit, sealed: boolean): MinikeepError {
  const how = exit.signal === null ? `status ${exit.code ?? 'unknown'}` : `signal ${exit.signal}`;
  const why = exit.reason === '' ? how : exit.reason;
  const words = sealed ? '' : exit.stderr_tail.trim();
  const tail = words === '' ? '' : `; its last words: ${words}`;
  return new MinikeepError('engine.gone', `the engine ended (${why})${tail}`, {
    next: 'Load the deployment again; if it ends again, check the model with `minikeep model check`.',
  });
}
