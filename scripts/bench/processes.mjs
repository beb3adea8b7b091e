// Processes of a bench: which belong to whom, on which cores they run, how much memory and time they took (Linux).
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const statOf = (pid) => {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name may hold spaces and brackets: fields are counted behind its end.
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
};

/** A process and all that descend from it. */
export function familyOf(pid) {
  const parents = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      parents.set(Number(name), Number(statOf(name)[1]));
    } catch {
      // It ended while we looked.
    }
  }
  const family = [pid];
  for (const member of family)
    for (const [child, parent] of parents) if (parent === member) family.push(child);
  return family;
}

/** Holds processes, all their threads, to one core. */
export function holdToCore(pids, core) {
  for (const pid of pids) execFileSync('taskset', ['-a', '-c', '-p', String(core), String(pid)]);
}

export const programOf = (pid) => {
  const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  return words.map((word) => /([a-z]+)\.mjs$/.exec(word)?.[1]).find(Boolean) ?? words[0];
};

/** Peak of the resident memory, in MiB; it counts pages that are shared with other processes, as Node's own are. */
export const peakMemoryMiB = (pid) =>
  Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1]) / 1024;

export const TICKS_A_SECOND = 100;

/** Seconds of user and system time so far. */
export const cpuSeconds = (pid) => {
  const [user, system] = statOf(pid).slice(11, 13).map(Number);
  return (user + system) / TICKS_A_SECOND;
};

/** … with those of its children that have ended. */
export const cpuSecondsWithEnded = (pid) => {
  const times = statOf(pid).slice(11, 15).map(Number);
  return times.reduce((sum, ticks) => sum + ticks, 0) / TICKS_A_SECOND;
};
