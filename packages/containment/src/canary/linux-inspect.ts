/** What Linux says about the canary's process from outside: the limits and rights that no attempt can show. */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Sandbox } from '../sandbox.ts';
import type { CanaryInspection } from './types.ts';

/** An engine is dead within this time after its warden, milliseconds. */
export const ORPHAN_MS_MAX = 100;
const CORE_PATTERN = '/proc/sys/kernel/core_pattern';

const text = (file: string): string => {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
};

const field = (status: string, name: string): string =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.trim() ?? 'unknown';

/** What /proc says after the name in parentheses: state, parent, group, session, terminal. Empty without the process. */
function stat(pid: number): string[] {
  const line = text(`/proc/${pid}/stat`);
  return line === '' ? [] : line.slice(line.lastIndexOf(')') + 2).split(' ');
}

export function parentOf(pid: number): number | undefined {
  const parent = Number(field(text(`/proc/${pid}/status`), 'PPid'));
  return Number.isInteger(parent) && parent > 0 ? parent : undefined;
}

/** Rights, limits and terminal of a running canary. */
export function inspectProcess(pid: number): CanaryInspection[] {
  const status = text(`/proc/${pid}/status`);
  const limits = text(`/proc/${pid}/limits`);
  const [, , , session, terminal] = stat(pid);
  const uids = field(status, 'Uid').split(/\s+/);
  const capabilities = ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map((name) => field(status, name));
  const core =
    /^Max core file size\s+(\S+)\s+(\S+)/m.exec(limits)?.slice(1, 3).join('/') ?? 'unknown';
  const score = text(`/proc/${pid}/oom_score_adj`).trim() || 'unknown';
  return [
    {
      name: 'process-filter',
      title: 'it runs under a system call filter and can gain no rights',
      ok: field(status, 'Seccomp') === '2' && field(status, 'NoNewPrivs') === '1',
      finding: `Seccomp ${field(status, 'Seccomp')}, NoNewPrivs ${field(status, 'NoNewPrivs')}`,
    },
    {
      name: 'process-rights',
      title: 'it is not root and has no capability',
      ok: !uids.includes('0') && uids.length === 4 && capabilities.every((set) => /^0+$/.test(set)),
      finding: `user ${uids[1] ?? 'unknown'}, capabilities ${capabilities[2] ?? 'unknown'}`,
    },
    {
      name: 'process-terminal',
      title: 'it has its own session and no terminal',
      ok: terminal === '0' && session !== undefined && session !== stat(process.pid)[3],
      finding: `session ${session ?? 'unknown'}, terminal ${terminal ?? 'unknown'}`,
    },
    {
      name: 'process-core',
      title: 'it cannot leave a core file',
      ok: core === '0/0' || core === '1/1',
      finding: `core limit ${core} bytes`,
    },
    {
      name: 'process-memory',
      title: 'it is the first to go when memory runs out',
      ok: score === '1000',
      finding: `oom_score_adj ${score}`,
    },
  ];
}

/** Where the kernel would put core files. */
function coreFolders(): string[] {
  const pattern = text(CORE_PATTERN).trim();
  return pattern.startsWith('/') ? ['/', path.dirname(pattern)] : ['/'];
}

const coreFiles = (): string[] =>
  coreFolders().flatMap((folder) => {
    try {
      return readdirSync(folder)
        .filter((name) => folder !== '/' || name.startsWith('core'))
        .map((name) => path.join(folder, name));
    } catch {
      return [];
    }
  });

/** Call before the crashes; the answer looks again. */
export function watchCores(): () => CanaryInspection {
  const before = new Set(coreFiles());
  return () => {
    const found = coreFiles().filter((file) => !before.has(file));
    const pattern = text(CORE_PATTERN).trim();
    return {
      name: 'crash-cores',
      title: 'the crashes left no core file',
      ok: found.length === 0,
      finding: found.length > 0 ? found.join(', ') : `none (core_pattern ${pattern.slice(0, 60)})`,
    };
  };
}

/** A zombie is dead: only its parent's attention is missing. */
const gone = (pid: number): boolean => [undefined, 'Z', 'X'].includes(stat(pid)[0]);

/** How a platform tells a process's parent and its end. */
export interface Kinship {
  parentOf(pid: number): number | undefined;
  gone(pid: number): boolean;
}
const LINUX: Kinship = { parentOf, gone };

/** Kills the warden of a running canary, and sees how long the canary lives on. */
export async function inspectOrphan(
  { pid, killMonitor }: Pick<Sandbox, 'pid' | 'killMonitor'>,
  kinship: Kinship = LINUX,
): Promise<CanaryInspection> {
  const inspection = { name: 'monitor-killed', title: 'when its warden dies, it dies' };
  const warden = kinship.parentOf(pid);
  if (killMonitor === undefined || warden === undefined || warden === process.pid)
    return { ...inspection, ok: false, finding: 'its parent is not a warden' };
  const start = performance.now();
  killMonitor();
  for (;;) {
    const dead = kinship.gone(pid);
    const ms = performance.now() - start;
    if (dead) return { ...inspection, ok: true, finding: `dead after at most ${ms.toFixed(0)} ms` };
    if (ms > ORPHAN_MS_MAX)
      return { ...inspection, ok: false, finding: `still alive after ${ms.toFixed(0)} ms` };
    await sleep(1);
  }
}
