/**
 * Small secret files of a home: keys and certificates. A file is there in whole or not at all, whatever ends the
 * process or the power: it is written beside its place, brought to the disk, renamed, and the rename brought there too.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { KEY_FILE_BYTES_MAX } from './limits.ts';

const NAME = /^[a-z][a-z0-9-]{0,62}\.(pem|json)$/;
const UNFINISHED = /^\.[a-z][a-z0-9.-]*\.[0-9a-f]{16}\.part$/;
const KEY_MODE = 0o600;

function pathOf(folder: string, name: string): string {
  if (NAME.test(name)) return path.join(folder, name);
  throw new MinikeepError(
    'home.key_name_invalid',
    `"${name.slice(0, 80)}" is no name of a key file`,
    {
      next: 'Use lower-case letters, digits and hyphens, then .pem or .json.',
    },
  );
}

/** Brings a folder's entries (names, renames, removals) to the disk. */
export function syncFolder(folder: string): void {
  const descriptor = openSync(folder, constants.O_RDONLY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Replaces or makes the file; when this returns, it outlives a power cut.
 * Throws `home.key_name_invalid`, `home.key_too_large`, `home.key_unwritable`, `system.disk_full`.
 */
export function writeKeyFile(folder: string, name: string, content: string): void {
  const target = pathOf(folder, name);
  const bytes = Buffer.from(content);
  if (bytes.length > KEY_FILE_BYTES_MAX) throw tooLarge(target);
  const part = path.join(folder, `.${name}.${randomBytes(8).toString('hex')}.part`);
  try {
    const descriptor = openSync(
      part,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      KEY_MODE,
    );
    try {
      // The mode above is lessened by the umask, which may take rights from us too.
      fchmodSync(descriptor, KEY_MODE);
      for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(part, target);
    syncFolder(folder);
  } catch (cause) {
    rmSync(part, { force: true });
    throw fault(cause, 'home.key_unwritable', `can't write ${target}`);
  }
}

/**
 * The file's content, or undefined if there is none.
 * Throws `home.key_unreadable`, `home.key_too_large`, `home.key_open_to_others`.
 */
export function readKeyFile(folder: string, name: string): string | undefined {
  const target = pathOf(folder, name);
  let descriptor: number;
  try {
    descriptor = openSync(target, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw fault(cause, 'home.key_unreadable', `can't read ${target}`);
  }
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile())
      throw new MinikeepError('home.key_unreadable', `${target} is not a file`, {
        next: 'Put the file back from a backup, or give another folder with --home.',
      });
    if ((stat.mode & 0o077) !== 0)
      throw new MinikeepError('home.key_open_to_others', `others may read or write ${target}`, {
        next: `Find out who had access; if nobody did: chmod 600 "${target}"`,
      });
    if (stat.size > KEY_FILE_BYTES_MAX) throw tooLarge(target);
    return readFileSync(descriptor, 'utf8');
  } catch (cause) {
    throw fault(cause, 'home.key_unreadable', `can't read ${target}`);
  } finally {
    closeSync(descriptor);
  }
}

/** Removes the file if it is there; when this returns, it does not come back after a power cut. */
export function removeKeyFile(folder: string, name: string): void {
  rmSync(pathOf(folder, name), { force: true });
  syncFolder(folder);
}

/** Removes what writers left that were ended before they were done. Only for the holder of the home's lock. */
export function removeUnfinished(folder: string): void {
  for (const name of readdirSync(folder))
    if (UNFINISHED.test(name)) rmSync(path.join(folder, name), { force: true });
}

function tooLarge(file: string): MinikeepError {
  return new MinikeepError(
    'home.key_too_large',
    `${file} is larger than ${KEY_FILE_BYTES_MAX / 1024} KiB, so it is no key or certificate`,
    { next: 'Put the right file back from a backup.' },
  );
}

function fault(cause: unknown, code: string, message: string): MinikeepError {
  const known = toMinikeepError(cause);
  if (known.code !== 'internal.unexpected') return known;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MinikeepError(code, `${message}: ${why}`, {
    next: 'Check that the folder belongs to the user that runs minikeep, and that its disk works.',
    cause,
  });
}
