/** A place of its own for one command, and proof that nothing of it is left: no process, no file, no socket. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { alive, treeOf } from './cluster-helpers.ts';

const WATCH_INTERVAL_MS = 40;

export class Place {
  readonly root = mkdtempSync(path.join(tmpdir(), 'minikeep-place-'));
  readonly temporary = mkdtempSync(path.join(this.root, 'tmp-'));
  readonly cache = mkdtempSync(path.join(this.root, 'cache-'));
  readonly #seen = new Set<number>();
  #timer: NodeJS.Timeout | undefined;

  get env(): Record<string, string> {
    return { TMPDIR: this.temporary, XDG_CACHE_HOME: this.cache };
  }

  /** Remembers every process that the command starts. */
  watch(child: ChildProcess): void {
    const look = (): void => {
      if (child.pid !== undefined) for (const pid of treeOf([child.pid])) this.#seen.add(pid);
    };
    look();
    this.#timer = setInterval(look, WATCH_INTERVAL_MS);
    child.on('exit', () => clearInterval(this.#timer));
  }

  /** How many processes there were at most, the command itself included. */
  get processCount(): number {
    return this.#seen.size;
  }

  /** Processes may take a moment to go after the command has; files may not. */
  async expectNothingLeft(timeoutMs = 15_000): Promise<void> {
    clearInterval(this.#timer);
    expect(readdirSync(this.temporary)).toEqual([]);
    await this.expectNoProcess(timeoutMs);
  }

  async expectNoProcess(timeoutMs = 15_000): Promise<void> {
    clearInterval(this.#timer);
    await expect
      .poll(() => [...this.#seen].filter((pid) => alive(pid)), { timeout: timeoutMs, interval: 50 })
      .toEqual([]);
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
