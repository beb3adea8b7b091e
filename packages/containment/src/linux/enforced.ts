/** What the kernel's own books say of a running engine: read anew each time, never remembered. */
import { readFileSync } from 'node:fs';
import type { Enforced } from '../sandbox.ts';

const field = (status: string, name: string): string =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.trim() ?? 'unknown';

export function enforcedOn(pid: number, read = readStatus): Enforced {
  const status = read(pid);
  if (status === undefined) return { state: 'unknown', finding: 'its process is not there' };
  const [filter, rights] = [field(status, 'Seccomp'), field(status, 'NoNewPrivs')];
  const capabilities = field(status, 'CapEff');
  const users = field(status, 'Uid').split(/\s+/);
  const finding = `Seccomp ${filter}, NoNewPrivs ${rights}, capabilities ${capabilities}, user ${users[1] ?? 'unknown'}`;
  const ok =
    filter === '2' &&
    rights === '1' &&
    /^0+$/.test(capabilities) &&
    !users.slice(0, 4).includes('0');
  return { state: ok ? 'yes' : 'no', finding };
}

function readStatus(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return undefined;
  }
}
