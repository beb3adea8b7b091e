/** Which process of `minikeep start` runs a home: written by it, asked by a second start and by `minikeep stop`. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { FILES, readKeyFile, removeKeyFile, writeKeyFile } from '@minikeep/state';
import { z } from 'zod';

const STARTED = z.object({ pid: z.number().int().positive(), born: z.string().max(200) });
const PS_MS_MAX = 5_000;
const END_POLL_MS = 50;

export function markStarted(folder: string): void {
  const { pid } = process;
  writeKeyFile(folder, FILES.started, `${JSON.stringify({ pid, born: birthOf(pid) })}\n`);
}

/** Only one's own mark: another start may have come meanwhile. */
export function forgetStarted(folder: string): void {
  if (read(folder)?.pid === process.pid) removeKeyFile(folder, FILES.started);
}

/** The process that runs this home; undefined when none does. */
export function startedProcess(folder: string): number | undefined {
  const found = read(folder);
  return found !== undefined && found.born !== '' && birthOf(found.pid) === found.born
    ? found.pid
    : undefined;
}

function read(folder: string): z.infer<typeof STARTED> | undefined {
  const text = readKeyFile(folder, FILES.started);
  try {
    return text === undefined ? undefined : STARTED.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Resolves when that process has ended, with whether it did within the time. */
export async function endOf(pid: number, milliseconds: number): Promise<boolean> {
  const born = birthOf(pid);
  const deadline = Date.now() + milliseconds;
  while (born !== '' && birthOf(pid) === born) {
    if (Date.now() > deadline) return false;
    await pause(END_POLL_MS);
  }
  return true;
}

/** When a process began: its number may be anybody's later. Empty: there is none. */
function birthOf(pid: number): string {
  try {
    if (process.platform !== 'linux')
      return execFileSync('/bin/ps', ['-o', 'lstart=', '-p', String(pid)], {
        encoding: 'utf8',
        timeout: PS_MS_MAX,
        env: { LC_ALL: 'C', TZ: 'UTC' },
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    // Field 22, counted after the name, which may have blanks and brackets in it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ');
    // One that has ended and that nobody has asked about yet is gone all the same.
    return fields?.[0] === 'Z' ? '' : `${boot} ${fields?.[19] ?? ''}`;
  } catch {
    return '';
  }
}
