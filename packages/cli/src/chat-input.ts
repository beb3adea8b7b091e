/**
 * What a person types in a chat. One line editor for the whole chat: while an answer is written nothing that is typed
 * shows in the middle of it, and nothing is lost; it is there at the next prompt. A paste of several lines is one
 * message, where the terminal says what was pasted (bracketed paste).
 */
import { createInterface, type Interface, type Key } from 'node:readline';
import { Writable } from 'node:stream';
import type { Terminal } from './terminal.ts';

const HISTORY_MAX = 200;
/** Messages typed ahead of the answers; more is not kept. */
const AHEAD_MAX = 100;
/** Longest message. The rest of a longer one is not kept; what is too long for the model is said by the model. */
const MESSAGE_CHARACTERS_MAX = 16 * 1024 * 1024;
const PASTE_ON = '\u001b[?2004h';
const PASTE_OFF = '\u001b[?2004l';

export class ChatInput {
  readonly #terminal: Terminal;
  readonly #interrupt: () => void;
  readonly #lines: Interface;
  readonly #ahead: string[] = [];
  readonly #bracketed: boolean;
  /** The lines of the message that is being typed, before the last. */
  #text = '';
  #pasting = false;
  /** The editor clears its line, and what stands on the screen stays. */
  #muted = false;
  #ended = false;
  #waiting: ((text: string | undefined) => void) | undefined;

  /** `interrupt` is called for a Ctrl-C while nobody waits for input. */
  constructor(terminal: Terminal, interrupt: () => void) {
    this.#terminal = terminal;
    this.#interrupt = interrupt;
    this.#bracketed = process.env['TERM'] !== 'dumb';
    this.#lines = createInterface({
      input: terminal.stdin,
      output: this.#output(),
      terminal: true,
      historySize: HISTORY_MAX,
      removeHistoryDuplicates: true,
    });
    this.#lines.on('line', (line) => this.#line(line));
    this.#lines.on('SIGINT', () => this.#ctrlC());
    this.#lines.on('close', () => this.#end());
    terminal.stdin.on('keypress', this.#key);
    if (this.#bracketed) terminal.stdout.write(PASTE_ON);
  }

  /** The next message; undefined when the person wants to leave, or `signal` is aborted. */
  async next(signal: AbortSignal): Promise<string | undefined> {
    const early = this.#ahead.shift();
    if (early !== undefined) {
      // It was typed unseen.
      this.#terminal.stdout.write(`> ${early.replaceAll('\n', '\n… ')}\n`);
      return early;
    }
    if (this.#ended || signal.aborted) return undefined;
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const abort = (): void => resolve(undefined);
    signal.addEventListener('abort', abort, { once: true });
    this.#waiting = resolve;
    this.#prompt(true);
    try {
      const text = await promise;
      if (text === undefined) this.#terminal.stdout.write('\n');
      return text;
    } finally {
      this.#waiting = undefined;
      signal.removeEventListener('abort', abort);
    }
  }

  close(): void {
    this.#terminal.stdin.off('keypress', this.#key);
    if (!this.#ended) this.#lines.close();
    if (this.#bracketed) this.#terminal.stdout.write(PASTE_OFF);
  }

  /** The terminal while somebody waits for input, else nothing. */
  #output(): Writable {
    const { stdout } = this.#terminal;
    const shown = new Writable({
      decodeStrings: false,
      write: (text: string, _encoding, done) => {
        if (this.#waiting !== undefined && !this.#muted) stdout.write(text);
        done();
      },
    });
    for (const property of ['columns', 'rows'] as const)
      Object.defineProperty(shown, property, { get: () => stdout[property] });
    stdout.on('resize', () => shown.emit('resize'));
    return shown;
  }

  readonly #key = (_text: string | undefined, key: Key | undefined): void => {
    if (key?.name === 'paste-start') this.#pasting = true;
    if (key?.name === 'paste-end') this.#pasting = false;
  };

  #prompt(keepsCursor = false): void {
    this.#lines.setPrompt(this.#text === '' ? '> ' : '… ');
    this.#lines.prompt(keepsCursor);
  }

  #line(line: string): void {
    const goesOn = this.#pasting || line.endsWith('\\');
    const part = this.#pasting || !goesOn ? line : line.slice(0, -1);
    if (this.#text.length + part.length < MESSAGE_CHARACTERS_MAX)
      this.#text += goesOn ? `${part}\n` : part;
    if (goesOn) {
      this.#prompt();
      return;
    }
    const message = this.#text;
    this.#text = '';
    if (this.#waiting !== undefined) {
      const resolve = this.#waiting;
      this.#waiting = undefined;
      resolve(message);
    } else if (this.#ahead.length < AHEAD_MAX && message.trim() !== '') this.#ahead.push(message);
  }

  #ctrlC(): void {
    if (this.#waiting === undefined) {
      this.#ahead.length = 0;
      this.#interrupt();
    } else if (this.#lines.line === '' && this.#text === '') this.#waiting(undefined);
    else {
      this.#text = '';
      this.#pasting = false;
      this.#lines.write(null, { ctrl: true, name: 'e' });
      this.#terminal.stdout.write('^C\n');
      this.#muted = true;
      this.#lines.write(null, { ctrl: true, name: 'u' });
      this.#muted = false;
      this.#prompt();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#waiting?.(undefined);
  }
}
