/**
 * What the process says to its guard. Read whenever something comes, and before each decision: what it said before it
 * asked the kernel, is known then. Every message is checked: a process that was turned says what it likes.
 */
import { readSync } from 'node:fs';
import type { ToGuard, WardenWires } from '../../guard/control.ts';
import { MESSAGE_BYTES_MAX } from '../../guard/limits.ts';
import { watchReadable } from '../readable.ts';

const CHUNK_BYTES = 16 * 1024;
/** What is read at once, so that a flood of messages does not keep the guard from its questions. */
const CHUNKS_MAX = 16;

const isNumber = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;

/** Undefined: no message. */
export function readMessage(text: string): ToGuard | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { type, address, id, wires } = (value ?? {}) as Record<string, unknown>;
  if (type === 'peer' && typeof address === 'string') return { type, address };
  if (type === 'kill_warden' && isNumber(id)) return { type, id };
  const read = wiresOf(wires);
  return type === 'warden' && isNumber(id) && read !== undefined
    ? { type, id, wires: read }
    : undefined;
}

function wiresOf(value: unknown): WardenWires | undefined {
  const { stdin, stdout, stderr, engine } = (value ?? {}) as Record<string, unknown>;
  if (!isNumber(stdin) || !isNumber(stdout) || !isNumber(stderr)) return undefined;
  if (engine === undefined) return { stdin, stdout, stderr };
  const inner = (engine ?? {}) as Record<string, unknown>;
  return isNumber(inner['stdin']) && isNumber(inner['stdout'])
    ? { stdin, stdout, stderr, engine: { stdin: inner['stdin'], stdout: inner['stdout'] } }
    : undefined;
}

export class Inbox {
  readonly #fd: number;
  readonly #onMessage: (message: ToGuard) => void;
  readonly #onNonsense: (why: string) => void;
  readonly #watch: { readonly close: () => void };
  #rest = Buffer.alloc(0);
  #over = false;

  constructor(
    fd: number,
    onMessage: (message: ToGuard) => void,
    onNonsense: (why: string) => void,
  ) {
    this.#fd = fd;
    this.#onMessage = onMessage;
    this.#onNonsense = onNonsense;
    this.#watch = watchReadable(fd, () => this.read());
  }

  /** Everything that has come so far. */
  read(): void {
    for (let i = 0; i < CHUNKS_MAX && !this.#over; i++) {
      const chunk = Buffer.alloc(CHUNK_BYTES);
      let got: number;
      try {
        got = readSync(this.#fd, chunk, 0, chunk.length, null);
      } catch {
        return; // nothing there now
      }
      if (got === 0) return this.#end();
      this.#take(chunk.subarray(0, got));
    }
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (let end = this.#rest.indexOf(0x0a); end >= 0; end = this.#rest.indexOf(0x0a)) {
      const message = readMessage(this.#rest.toString('utf8', 0, end));
      this.#rest = this.#rest.subarray(end + 1);
      if (message === undefined) return this.#nonsense('not a message');
      this.#onMessage(message);
    }
    if (this.#rest.length > MESSAGE_BYTES_MAX) this.#nonsense('a message is too long');
  }

  #nonsense(why: string): void {
    this.#end();
    this.#onNonsense(why);
  }

  /** The process closed its end, or can't be read any more: it is on its way out. */
  #end(): void {
    this.#over = true;
    this.#watch.close();
  }
}
