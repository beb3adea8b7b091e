/** Keeps a file that grows on its way to the disk. */
import type { FileHandle } from 'node:fs/promises';

/** Written before the disk is asked to take it. */
const FLUSH_BYTES = 64 * 1024 * 1024;

/**
 * Brings what was written to the disk while more arrives: a transfer then takes as long as the slower of the two, and
 * not as long as both.
 */
export class Flusher {
  readonly #handle: FileHandle;
  #waitingBytes = 0;
  #running: Promise<void> | undefined;
  #error: unknown;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Throws what an earlier flush did. */
  written(bytes: number): void {
    if (this.#error !== undefined) throw toError(this.#error);
    this.#waitingBytes += bytes;
    if (this.#waitingBytes < FLUSH_BYTES || this.#running !== undefined) return;
    this.#waitingBytes = 0;
    this.#running = this.#handle.datasync().then(
      () => {
        this.#running = undefined;
      },
      (error: unknown) => {
        this.#error = error;
      },
    );
  }

  async end(): Promise<void> {
    await this.#running;
    if (this.#error !== undefined) throw toError(this.#error);
  }
}

const toError = (thrown: unknown): Error =>
  thrown instanceof Error ? thrown : new Error(String(thrown));
