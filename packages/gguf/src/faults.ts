/** The reader's errors in one shape: what is wrong, in which file, at which byte. */
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';

/** Escapes what could move a terminal's cursor; text out of a file is written by a stranger. */
export function printable(text: string, lengthMax = 200): string {
  const cut = text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text;
  return cut.replace(/[\p{C}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`);
}

const NEXT_BROKEN =
  'The file is damaged or was not written by llama.cpp: fetch it again and compare its SHA-256 with the publisher’s.';

/** A fault of the file's content at a byte offset. */
export function fileFault(
  code: string,
  path: string,
  offset: number,
  what: string,
  next: string = NEXT_BROKEN,
): MinikeepError {
  return new MinikeepError(
    `gguf.${code}`,
    `${printable(path, 1000)}: ${what} (at byte ${offset})`,
    {
      next,
      details: { path, offset },
    },
  );
}

/** A failed system call on a model file as one of the typed errors; `path` is the file's. */
export function ioFault(thrown: unknown, path: string): MinikeepError {
  if (thrown instanceof MinikeepError) return thrown;
  const cause = thrown as NodeJS.ErrnoException;
  const make = (code: string, what: string, next: string): MinikeepError =>
    new MinikeepError(`gguf.${code}`, `${printable(path, 1000)}: ${what}`, {
      next,
      cause,
      details: { path },
    });
  switch (cause.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return make(
        'not_found',
        'there is no such file',
        'Check the path; `ls` the folder it should be in.',
      );
    case 'EACCES':
    case 'EPERM':
      return make(
        'permission',
        'this user may not read it',
        `Make it readable: chmod u+r '${path}'.`,
      );
    case 'EISDIR':
      return notAFile(path, 'a folder');
    case 'ELOOP':
    case 'ENXIO':
      return notAFile(path, 'not a regular file');
    default: {
      // A machine at its limits is no fault of the file or its disk.
      const refused = toMinikeepError(thrown);
      if (refused.code.startsWith('system.')) return refused;
      return make(
        'read_failed',
        `reading failed (${cause.code ?? cause.message})`,
        'Check the disk that holds the file, then try again.',
      );
    }
  }
}

export function notAFile(path: string, kind: string): MinikeepError {
  return new MinikeepError(
    'gguf.not_a_file',
    `${printable(path, 1000)}: it is ${kind}, not a model file`,
    {
      next: 'Name the .gguf file itself.',
      details: { path },
    },
  );
}
