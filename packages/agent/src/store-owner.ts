/**
 * Names of what a process leaves in a shared store, so that another can tell when the process is gone.
 * A process id means nothing in another container: the name holds the process id namespace too.
 */
import { readlinkSync } from 'node:fs';

function namespaceId(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? 'host';
  } catch {
    // No namespaces here (macOS): one machine, one set of process ids.
    return 'host';
  }
}

const NAMESPACE = namespaceId();
const OWNER = /^([a-z0-9]+)\.(\d+)\.[0-9a-f]+/;

export function ownerName(random: string): string {
  return `${NAMESPACE}.${process.pid}.${random}`;
}

/** Owners of this very process: its id may be that of one before it (containers start counting anew). */
const living = new Set<string>();

export function own(owner: string): string {
  living.add(owner);
  return owner;
}

export function disown(owner: string): void {
  living.delete(owner);
}

/** True when the process that the name belongs to surely no longer runs. */
export function isOwnerGone(name: string): boolean {
  const match = OWNER.exec(name);
  // Not made by us: not ours to remove.
  if (match === null) return false;
  if (match[1] !== NAMESPACE) return false;
  if (Number(match[2]) === process.pid) return !living.has(match[0]);
  try {
    process.kill(Number(match[2]), 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}
