/** The prompt: from the command line or, for "-", from stdin. */
import { EXIT, MinikeepError } from '@minikeep/protocol';

/** A prompt beyond this can't fit any context. */
export const PROMPT_BYTES_MAX = 16 * 1024 * 1024;

const usage = (code: string, message: string, next: string): MinikeepError =>
  new MinikeepError(code, message, { next, exitCode: EXIT.usage });

/** Errors: `prompt.empty`, `prompt.too_large`, `prompt.encoding`. */
export async function readPrompt(
  prompt: string,
  stdin: AsyncIterable<Buffer | string>,
  signal: AbortSignal,
): Promise<string> {
  const text = prompt === '-' ? await readAll(stdin, signal) : prompt;
  if (text.trim() === '')
    throw usage(
      'prompt.empty',
      'the prompt is empty',
      'Write a PROMPT, or leave it out on a terminal to chat.',
    );
  return text;
}

async function readAll(
  stdin: AsyncIterable<Buffer | string>,
  signal: AbortSignal,
): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  const iterator = stdin[Symbol.asyncIterator]();
  try {
    signal.throwIfAborted();
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next.done === true) break;
      const part = Buffer.from(next.value as Buffer);
      size += part.byteLength;
      if (size > PROMPT_BYTES_MAX)
        throw usage(
          'prompt.too_large',
          `stdin has more than ${PROMPT_BYTES_MAX / 1024 / 1024} MiB`,
          'Give a shorter prompt.',
        );
      parts.push(part);
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
  } catch {
    throw usage('prompt.encoding', 'stdin is not UTF-8 text', 'Convert the text to UTF-8 first.');
  }
}
