/**
 * The warden of Linux: one process for one engine. It refuses and names what the engine may not do, and the engine
 * lives no longer than it: the kernel kills the engine when the warden dies, and the warden when its agent does.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checklistFor } from '../canary/checklist.ts';
import { isFiltered, probeOutside } from '../canary/outside.ts';
import { ENGINE_WIRES, serveWarden } from '../warden/serve.ts';
import { hostArch, numberOf } from './arch.ts';
import { libc } from './libc.ts';
import { probe } from './probe.ts';
import { supervise } from './supervise.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

const programs = path.dirname(fileURLToPath(import.meta.url));
const launcher = path.join(programs, 'launcher.mjs');
const canary = path.join(programs, 'canary.mjs');

// Before anything else is started, and before the parent is looked at: without it an engine could outlive a killed agent.
libc().syscall(numberOf(hostArch(), 'prctl'), PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
serveWarden({
  probe: (onStep) => probe(launcher, onStep),
  outside: async () => (isFiltered() ? probeOutside(canary, checklistFor('linux')) : []),
  supervise: (job, report) => supervise(job, ENGINE_WIRES, launcher, report),
});
