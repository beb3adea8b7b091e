// The machine's own noise, seen while a part of the bench runs: a fixed loop is timed between the rounds, and what other
// processes took of the machine meanwhile is told apart from what the bench took itself (Linux; /proc/stat).
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { spread } from './figures.mjs';
import { cpuSecondsWithEnded, familyOf, TICKS_A_SECOND } from './processes.mjs';

const LOOP = 500_000;

/** Milliseconds of a loop that always does the same. */
function fixedLoop() {
  const began = performance.now();
  let x = 1;
  for (let k = 0; k < LOOP; k++) x = (x * 1103515245 + 12345) % 2147483648;
  if (x < 0) throw new Error('unreachable');
  return performance.now() - began;
}

/** Seconds that all cores together were busy, and that a hypervisor kept from them. */
function machineSeconds() {
  const [, user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'latin1')
    .split('\n', 1)[0]
    .split(/\s+/)
    .map(Number);
  const busy = user + nice + system + irq + softirq;
  return { busy: busy / TICKS_A_SECOND, stolen: steal / TICKS_A_SECOND };
}

const ourSeconds = () =>
  familyOf(process.pid).reduce((sum, pid) => {
    try {
      return sum + cpuSecondsWithEnded(pid);
    } catch {
      return sum; // It ended while we looked.
    }
  }, 0);

/** Watches from now on. `tick` between rounds; `report` while the processes of the part still live. */
export function watchNoise() {
  const before = machineSeconds();
  const oursBefore = ourSeconds();
  const began = performance.now();
  const loops = [];
  return {
    tick: () => void loops.push(fixedLoop()),
    report() {
      const seconds = (performance.now() - began) / 1000;
      const now = machineSeconds();
      const ours = ourSeconds() - oursBefore;
      return {
        fixed_loop_milliseconds: spread(loops),
        cores: availableParallelism(),
        cores_taken_by_others: Math.max(0, (now.busy - before.busy - ours) / seconds),
        cores_stolen: (now.stolen - before.stolen) / seconds,
      };
    },
  };
}
