/**
 * Ctrl-C. The first one asks what runs to stop and lets it clean up, for a few seconds; the second ends everything at
 * once. A chat takes the first one for itself, to stop an answer.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';

const CLEAN_UP_SECONDS_MAX = 8;

export function interruptedError(): MinikeepError {
  return new MinikeepError('run.interrupted', 'interrupted', {
    next: 'Run the command again.',
    exitCode: EXIT.interrupted,
  });
}

export class Interrupts {
  readonly #abort = new AbortController();
  readonly #undo: (() => void)[] = [];
  #handler: (() => void) | undefined;

  /** Aborted by the first interrupt that no handler took; its reason is the MinikeepError to report. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  install(process: NodeJS.Process): void {
    process.on('SIGINT', () => this.interrupt());
    for (const signal of ['SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => this.stop(interruptedError()));
  }

  /** What a Ctrl-C does. */
  interrupt(): void {
    if (this.#handler !== undefined) this.#handler();
    else this.stop(interruptedError());
  }

  /** Asks everything to stop because of `reason`; the second call leaves at once. */
  stop(reason: MinikeepError): void {
    if (this.#abort.signal.aborted) this.leave(reason.exitCode);
    this.#abort.abort(reason);
    setTimeout(() => this.leave(reason.exitCode), CLEAN_UP_SECONDS_MAX * 1000).unref();
  }

  /** While `handler` is set, it gets Ctrl-C instead. */
  take(handler: (() => void) | undefined): void {
    this.#handler = handler;
  }

  /** `undo` runs when there is no time for an orderly end: synchronous, quick, never throwing. Returns its removal. */
  atOnce(undo: () => void): () => void {
    this.#undo.push(undo);
    return () => {
      const at = this.#undo.indexOf(undo);
      if (at >= 0) this.#undo.splice(at, 1);
    };
  }

  leave(exitCode: number): never {
    for (const undo of this.#undo.toReversed()) undo();
    process.exit(exitCode);
  }
}
