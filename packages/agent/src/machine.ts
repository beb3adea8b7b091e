/** What this machine is and has, for placement. */
import { readFile } from 'node:fs/promises';
import { freemem, hostname, totalmem } from 'node:os';

/** The same for all agents of one machine: of one boot of one kernel where that can be told, else by its name. */
export async function machineId(): Promise<string> {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  return boot.trim() === '' ? `host ${hostname()}` : `boot ${boot.trim()}`;
}

/** Memory that an engine could have now, within the container's limit if there is one. */
export function memoryAvailableBytes(): number {
  const limit = process.constrainedMemory();
  const limited = limit > 0 && limit < totalmem();
  return limited ? Math.min(freemem(), process.availableMemory()) : freemem();
}
