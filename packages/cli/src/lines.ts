/** A line for each of several things that go on at once: written over on a terminal, one after the other elsewhere. */
import { safeLine } from './safe-text.ts';
import type { Terminal } from './terminal.ts';

const LINE_LENGTH_MAX = 200;
const REDRAW_MS = 100;

export class Lines {
  readonly #stream: NodeJS.WriteStream;
  readonly #quiet: boolean;
  readonly #lines = new Map<string, { text: string; kind: string; since: number }>();
  readonly #begun = performance.now();
  #drawn = 0;
  #lastMs = -Infinity;

  constructor(terminal: Terminal, quiet: boolean) {
    this.#stream = terminal.stderr;
    this.#quiet = quiet;
  }

  /** `kind`: of texts of the same kind (percentages) only the first is written where lines can't be written over. */
  set(name: string, text: string, kind: string): void {
    if (this.#quiet) return;
    const before = this.#lines.get(name);
    const now = performance.now();
    this.#lines.set(name, { text, kind, since: before?.kind === kind ? before.since : now });
    if (!this.#stream.isTTY) {
      if (before?.kind !== kind)
        this.#stream.write(
          `${this.#seconds(now)}  ${safeLine(`${name}: ${kind}`, LINE_LENGTH_MAX)}\n`,
        );
      return;
    }
    if (before?.kind !== kind || now - this.#lastMs > REDRAW_MS) this.#draw(now);
  }

  /** What stands there stays. */
  end(): void {
    if (this.#stream.isTTY && this.#lines.size > 0) this.#draw(performance.now());
    this.#drawn = 0;
    this.#lines.clear();
  }

  #draw(now: number): void {
    this.#lastMs = now;
    const columns = Math.max(20, (this.#stream.columns ?? 80) - 1);
    const width = Math.max(...this.#lines.keys().map((name) => name.length));
    const up = this.#drawn === 0 ? '' : `\u001b[${this.#drawn}A`;
    const rows = [...this.#lines].map(
      ([name, { text }]) =>
        `\r\u001b[K${safeLine(`${name.padEnd(width)}  ${text}`, LINE_LENGTH_MAX).slice(0, columns)}\n`,
    );
    this.#stream.write(`${up}${rows.join('')}`);
    this.#drawn = rows.length;
  }

  #seconds(now: number): string {
    return `${((now - this.#begun) / 1000).toFixed(1).padStart(6)} s`;
  }
}
