/** Where a command writes: data to stdout, messages to stderr, and no crash when the reader of a pipe leaves. */
import { once } from 'node:events';
import { safeJson, safeLine, safeText } from './safe-text.ts';
import { WordWrap, wrapped } from './wrap.ts';

const WIDTH_MIN = 20;

export class Terminal {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Takes a progress line away, so that what follows begins at the line's start. */
  beforeWriting: () => void = () => {};
  /** Aborted when nobody reads stdout any more. */
  readonly #closed = new AbortController();
  readonly #wrap = new WordWrap();

  constructor(process: Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr'>) {
    this.stdin = process.stdin;
    this.stdout = process.stdout;
    this.stderr = process.stderr;
    this.stdout.on('error', () => this.#closed.abort());
    // Without stderr there is nobody to tell.
    this.stderr.on('error', () => {});
  }

  get outputClosed(): AbortSignal {
    return this.#closed.signal;
  }

  /** A person can type here and see the answer. */
  get interactive(): boolean {
    return this.stdin.isTTY && this.stdout.isTTY;
  }

  /** Text for people, possibly written by others; resolves when there is room for more. */
  async write(text: string): Promise<void> {
    await this.#send(safeText(text));
  }

  /** A text that comes in pieces: a person's terminal gets lines that break between words, a pipe what was written. */
  async words(text: string): Promise<void> {
    await this.#send(
      this.stdout.isTTY ? this.#wrap.push(safeText(text), this.stdout.columns) : safeText(text),
    );
  }

  /** Writes what is still held back of the words that `source` wrote, also when it fails. */
  async allWordsOf<T>(source: Promise<T>): Promise<T> {
    try {
      return await source;
    } finally {
      await this.#send(this.#wrap.end(this.stdout.columns));
    }
  }

  /** One paragraph; on a person's terminal the lines after the first are indented under it. */
  async paragraph(text: string, lead = ''): Promise<void> {
    const width = Math.max(WIDTH_MIN, (this.stdout.columns ?? 0) - lead.length);
    const lines = this.stdout.isTTY ? wrapped(text, width, Infinity) : [text];
    for (const [i, line] of lines.entries())
      await this.line(`${i === 0 ? lead : ' '.repeat(lead.length)}${line}`);
  }

  async line(text = ''): Promise<void> {
    await this.#send(`${safeText(text)}\n`);
  }

  /** One JSON document in one line. */
  async json(value: unknown): Promise<void> {
    await this.#send(`${safeJson(value)}\n`);
  }

  /** A message to the person, on stderr. */
  note(text: string): void {
    this.beforeWriting();
    this.stderr.write(`${safeLine(text, 4_000)}\n`);
  }

  async #send(text: string): Promise<void> {
    if (this.#closed.signal.aborted || text === '') return;
    this.beforeWriting();
    if (!this.stdout.write(text))
      await once(this.stdout, 'drain', { signal: this.#closed.signal }).catch(() => {});
  }
}
