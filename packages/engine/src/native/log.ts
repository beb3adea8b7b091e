/**
 * Takes llama.cpp's log before it reaches stderr: error texts explain failures, and the lines about buffers are the
 * only place where llama.cpp says how much it allocated. Its text is derived from untrusted files.
 */
import koffi from 'koffi';
import { LogCallback, type Address } from './abi.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export interface LogLine {
  readonly level: LogLevel;
  readonly text: string;
}

const LINES_KEPT_MAX = 400;
const LINE_LENGTH_MAX = 2000;
/** `enum ggml_log_level`: none, debug, info, warn, error; 5 continues the line before. */
const LEVELS: readonly LogLevel[] = ['debug', 'debug', 'info', 'warn', 'error'];
const CONTINUATION = 5;
const BUFFER_LINE = /([\w-]+)\s+(model|KV|RS|compute|output) buffer size\s*=\s*([\d.]+) MiB/;

export interface BufferBytes {
  readonly weights_bytes: number;
  readonly kv_bytes: number;
  readonly compute_bytes: number;
}

/** A log line without control characters, at most `LINE_LENGTH_MAX` long. */
const tidy = (text: string): string =>
  text
    .replaceAll(/\p{Cc}+/gu, ' ')
    .trimEnd()
    .slice(0, LINE_LENGTH_MAX);

export class LogCapture {
  readonly callback: Address;
  #lines: LogLine[] = [];
  #listener: ((line: LogLine) => void) | undefined;

  constructor() {
    this.callback = koffi.register(
      (level: number, text: string | null) => this.#take(level, text ?? ''),
      koffi.pointer(LogCallback),
    );
  }

  /** Called for every whole line of warnings and errors. */
  onProblem(listener: (line: LogLine) => void): void {
    this.#listener = listener;
  }

  /** What was said since the last call. */
  drain(): LogLine[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }

  /**
   * The first error since the last `drain`, which names the cause (those after it say that loading failed); else the
   * last warning; empty if there was neither.
   */
  problem(): string {
    const of = (level: LogLevel): LogLine[] => this.#lines.filter((line) => line.level === level);
    return (of('error')[0] ?? of('warn').at(-1))?.text ?? '';
  }

  #take(level: number, raw: string): void {
    const text = tidy(raw);
    const last = this.#lines.at(-1);
    if (level === CONTINUATION && last !== undefined) {
      const joined = { level: last.level, text: (last.text + text).slice(0, LINE_LENGTH_MAX) };
      this.#lines[this.#lines.length - 1] = joined;
      return;
    }
    if (text === '') return;
    const line = { level: LEVELS[level] ?? 'info', text };
    this.#lines.push(line);
    if (this.#lines.length > LINES_KEPT_MAX) this.#lines.shift();
    if (line.level === 'warn' || line.level === 'error') this.#listener?.(line);
  }
}

/** Sums llama.cpp's lines about buffers; it prints MiB with two decimals, so each sum is exact to about 5 KiB a line. */
export function bufferBytes(lines: readonly LogLine[]): BufferBytes {
  const sums = { model: 0, KV: 0, RS: 0, compute: 0, output: 0 };
  for (const { text } of lines) {
    const found = BUFFER_LINE.exec(text);
    if (found) sums[found[2] as keyof typeof sums] += Number(found[3]) * 1024 * 1024;
  }
  return {
    weights_bytes: Math.round(sums.model),
    kv_bytes: Math.round(sums.KV + sums.RS),
    compute_bytes: Math.round(sums.compute + sums.output),
  };
}
