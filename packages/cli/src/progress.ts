/** One line on a terminal's stderr that is written over and over, and gone when the work is done. */
import type { Terminal } from './terminal.ts';

const MIN_INTERVAL_MS = 80;
const BAR_CELLS = 20;

export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #now: () => number;
  readonly #on: boolean;
  #shown = '';
  #lastMs = -Infinity;

  /** `quiet`: never shows anything (also when stderr is no terminal). */
  constructor(terminal: Terminal, quiet: boolean, now: () => number = () => performance.now()) {
    this.#stream = terminal.stderr;
    this.#now = now;
    this.#on = terminal.stderr.isTTY && !quiet;
    terminal.beforeWriting = () => this.clear();
  }

  /** `fraction` 0 to 1, or undefined when it is not known. `what` is a text of ours. */
  show(what: string, fraction?: number): void {
    if (!this.#on) return;
    const now = this.#now();
    const begins = !this.#shown.startsWith(what);
    if (!begins && now - this.#lastMs < MIN_INTERVAL_MS) return;
    this.#lastMs = now;
    const columns = Math.max(20, (this.#stream.columns ?? 80) - 1);
    const text = `${what}${fraction === undefined ? ' …' : ` ${bar(fraction)}`}`.slice(0, columns);
    if (text === this.#shown) return;
    this.#shown = text;
    this.#stream.write(`\r\u001b[K${text}`);
  }

  clear(): void {
    if (this.#shown === '') return;
    this.#shown = '';
    this.#stream.write('\r\u001b[K');
  }
}

function bar(fraction: number): string {
  const clamped = Math.max(0, Math.min(1, fraction));
  const full = Math.round(clamped * BAR_CELLS);
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}] ${String(Math.floor(clamped * 100)).padStart(3)} %`;
}
