/** A secret or another short text from a file or from standard input (`-`), never from the arguments. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { open } from 'node:fs/promises';

/** Throws `usage.input_unreadable`, `usage.input_too_long`, or the signal's reason. */
export async function readSmallInput(
  file: string,
  stdin: NodeJS.ReadableStream,
  lengthMax: number,
  signal: AbortSignal,
): Promise<string> {
  const text =
    file === '-' ? await fromStream(stdin, lengthMax, signal) : await fromFile(file, lengthMax);
  if (text.length <= lengthMax) return text;
  throw new MinikeepError(
    'usage.input_too_long',
    `${file === '-' ? 'the input' : file} is too long`,
    {
      next: `Give at most ${lengthMax} characters.`,
      exitCode: EXIT.usage,
    },
  );
}

async function fromStream(
  stdin: NodeJS.ReadableStream,
  lengthMax: number,
  signal: AbortSignal,
): Promise<string> {
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  const read = async (): Promise<string> => {
    let text = '';
    for await (const part of stdin) {
      text += String(part);
      if (text.length > lengthMax) break;
    }
    return text;
  };
  try {
    signal.throwIfAborted();
    return await Promise.race([read(), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

async function fromFile(file: string, lengthMax: number): Promise<string> {
  try {
    const handle = await open(file, 'r');
    try {
      if (!(await handle.stat()).isFile()) throw new Error('it is not a file');
      const buffer = Buffer.alloc(lengthMax + 1);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
      return buffer.subarray(0, bytesRead).toString('utf8');
    } finally {
      await handle.close();
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MinikeepError('usage.input_unreadable', `can't read ${file}: ${why}`, {
      next: 'Give the path of a file that this user may read, or - for standard input.',
      exitCode: EXIT.usage,
      cause,
    });
  }
}
