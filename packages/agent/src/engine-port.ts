/**
 * What the agent needs of an engine: the shape of packages/engine's client, named here so that the agent's parts are
 * tested with any engine that keeps to it.
 */
import type {
  EngineFault,
  EngineMemory,
  LoadStage,
  LoadText,
  TextRequest,
  TextResult,
} from '@minikeep/engine';
import type { SandboxExit, Violation } from '@minikeep/containment';

export interface EngineReady {
  readonly n_vocab: number;
  readonly n_embd: number;
  readonly n_layer: number;
  readonly memory: EngineMemory;
  readonly load_seconds: number;
}

export interface EngineListeners {
  onProgress(fraction: number): void;
  onViolation(violation: Violation): void;
  onLog(level: string, text: string): void;
  onStepError(step: number, epoch: number, error: EngineFault): void;
  /** One frame out of the engine, [5 bytes of headroom before it if `headroom`]. The engine's pipe is read on only when the promise resolves. */
  onFrame(payload: Uint8Array): Promise<void> | void;
}

export interface EnginePort {
  readonly pid: number;
  readonly sandboxed: boolean;
  readonly llamaVersion: string;
  readonly backends: readonly string[];
  readonly ready: Promise<EngineReady>;
  readonly exited: Promise<SandboxExit>;
  /** Resolves when the pipe takes more. */
  sendFrame(payload: Uint8Array): Promise<void> | void;
  text(request: TextRequest, options: { readonly timeoutMs: number }): Promise<TextResult>;
  kill(reason: string): Promise<unknown>;
}

export interface EngineSpec {
  readonly load: LoadStage | LoadText;
  /** The only files that the sandbox lets the engine read, besides its own program. */
  readonly files: readonly string[];
  readonly listeners: EngineListeners;
}

/** Starts an engine's process in its sandbox and tells it what to load; resolves when the process runs. */
export type EngineStarter = (spec: EngineSpec) => Promise<EnginePort>;
