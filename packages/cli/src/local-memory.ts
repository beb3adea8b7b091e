/** How much memory a cluster on this machine may use: what is free now, within the container's limit. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';

const VM_STAT_MS_MAX = 5_000;
/** Kept for the system and the trusted processes. */
const RESERVE_BYTES = 512 * 1024 * 1024;

export async function localBudgetBytes(): Promise<number> {
  const free = await freeBytes();
  const limit = process.constrainedMemory();
  const bounded =
    limit > 0 && limit < totalmem() ? Math.min(free, process.availableMemory()) : free;
  return Math.max(0, bounded - RESERVE_BYTES);
}

/** Memory that only caches files counts as free: the bare number of free pages is small on a machine that is in use. */
async function freeBytes(): Promise<number> {
  if (process.platform === 'darwin') return parseVmStat(await vmStat()) ?? freemem();
  if (process.platform !== 'linux') return freemem();
  const text = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(text);
  return match === null ? freemem() : Number(match[1]) * 1024;
}

function vmStat(): Promise<string> {
  return new Promise((resolve) => {
    execFile('/usr/bin/vm_stat', { timeout: VM_STAT_MS_MAX, env: {} }, (error, stdout) =>
      resolve(error === null ? stdout : ''),
    );
  });
}

/** Bytes that macOS can give without writing anything out: free, speculative, inactive and purgeable pages. */
export function parseVmStat(text: string): number | undefined {
  const pageBytes = Number(/page size of (\d+) bytes/.exec(text)?.[1] ?? 0);
  const pages = (name: string): number =>
    Number(new RegExp(`^Pages ${name}:\\s+(\\d+)\\.$`, 'm').exec(text)?.[1] ?? 0);
  const bytes =
    pageBytes * (pages('free') + pages('speculative') + pages('inactive') + pages('purgeable'));
  return bytes > 0 ? bytes : undefined;
}
