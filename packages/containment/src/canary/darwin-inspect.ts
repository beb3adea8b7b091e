/** What macOS says about the canary's process from outside, by `ps`: macOS has no files that tell. */
import { execFileSync } from 'node:child_process';
import type { CanaryInspection } from './types.ts';

const PS_MS_MAX = 5_000;

/** Runs `ps` with one process id; its output, or nothing when there is no such process. */
export type Ps = (columns: string, pid: number) => string;

export const macosPs: Ps = (columns, pid) => {
  try {
    return execFileSync('/bin/ps', ['-o', columns, '-p', String(pid)], {
      encoding: 'utf8',
      timeout: PS_MS_MAX,
      env: {},
    });
  } catch {
    return '';
  }
};

export function macParentOf(pid: number, ps: Ps = macosPs): number | undefined {
  const parent = Number(ps('ppid=', pid).trim() || 'unknown');
  return Number.isInteger(parent) && parent > 0 ? parent : undefined;
}

/** Rights and terminal of a running canary. */
export function inspectMacProcess(pid: number, ps: Ps = macosPs): CanaryInspection[] {
  const [uid, tty, group] = ps('uid=,tty=,pgid=', pid).trim().split(/\s+/);
  return [
    {
      name: 'process-rights',
      title: 'it is not root',
      ok: uid !== undefined && /^\d+$/.test(uid) && uid !== '0',
      finding: `user ${uid || 'unknown'}`,
    },
    {
      name: 'process-terminal',
      title: 'it has its own group and no terminal',
      ok: tty === '??' && group === String(pid),
      finding: `group ${group ?? 'unknown'}, terminal ${tty ?? 'unknown'}`,
    },
  ];
}

export function macGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
