/** How much memory a cluster on this machine may use: what is free now, within the container's limit. */
import { readFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';

/** Kept for the system and the trusted processes. */
const RESERVE_BYTES = 512 * 1024 * 1024;

export async function localBudgetBytes(): Promise<number> {
  const free = await freeBytes();
  const limit = process.constrainedMemory();
  const bounded =
    limit > 0 && limit < totalmem() ? Math.min(free, process.availableMemory()) : free;
  return Math.max(0, bounded - RESERVE_BYTES);
}

/** On Linux, memory that only caches files counts as free; elsewhere the system's own number. */
async function freeBytes(): Promise<number> {
  if (process.platform !== 'linux') return freemem();
  const text = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(text);
  return match === null ? freemem() : Number(match[1]) * 1024;
}
