// The most memory that each trusted process of `minikeep run` ever has, with its slices still to be cut and sent, and then
// with a prompt of several chunks. Engines are not counted: they hold the model.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from '../setup.mjs';
import { atEnd } from './ending.mjs';
import { claim } from './figures.mjs';
import { familyOf, peakMemoryMiB, programOf } from './processes.mjs';

const MIB_MAX = 150;
const LOOK_EVERY_MS = 50;
const PROGRAMS = ['minikeep', 'coordinator', 'agent', 'warden'];
/** More than one chunk at every stage, in whatever way it is tokenized. */
const WORDS = 400;
const TOKENS = 16;

/** Memory that a process has for itself, and its part of what it shares with others (Node's own code). */
const proportionalMiB = (pid) =>
  Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))[1]) / 1024;

function look(pid, peaks) {
  for (const member of familyOf(pid)) {
    try {
      const program = programOf(member);
      if (!PROGRAMS.includes(program)) continue;
      const seen = peaks.get(member) ?? { program, peak_mib: 0, proportional_mib: 0 };
      // The kernel keeps the peak itself: no look can miss it, but the last one before the end.
      seen.peak_mib = Math.max(seen.peak_mib, peakMemoryMiB(member));
      seen.proportional_mib = Math.max(seen.proportional_mib, proportionalMiB(member));
      peaks.set(member, seen);
    } catch {
      // It ended while we looked.
    }
  }
}

async function watchRun(file, stages, cacheFolder, peaks) {
  const prompt = Array.from({ length: WORDS }, (_, i) => `word${i % 7}`).join(' ');
  const child = spawn(
    path.join(ROOT, 'minikeep'),
    ['run', file, prompt, '--raw', '--json', '--local', `${stages}`, '--max-tokens', `${TOKENS}`],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, XDG_CACHE_HOME: cacheFolder },
    },
  );
  atEnd(() => child.kill());
  const timer = setInterval(() => look(child.pid, peaks), LOOK_EVERY_MS);
  try {
    const code = await new Promise((resolve) => child.once('exit', resolve));
    if (code !== 0) throw new Error(`minikeep run ended with ${code}`);
  } finally {
    clearInterval(timer);
  }
}

export async function memoryBench({ file, folder, stages, log }) {
  const peaks = new Map();
  log('memory: a run that cuts and sends the slices');
  await watchRun(file, stages, path.join(folder, 'memory'), peaks);
  log('memory: a run that has them');
  await watchRun(file, stages, path.join(folder, 'memory'), peaks);
  const most = (program, key) =>
    Math.max(
      ...[...peaks.values()].filter((seen) => seen.program === program).map((seen) => seen[key]),
    );
  const table = PROGRAMS.map((program) => ({
    program,
    peak_mib: most(program, 'peak_mib'),
    proportional_mib: most(program, 'proportional_mib'),
  })).filter(({ peak_mib }) => Number.isFinite(peak_mib));
  return {
    stages,
    table,
    claims: table.map(({ program, peak_mib }) =>
      claim(`most memory of a trusted process, ${program}, MiB`, peak_mib, { atMost: MIB_MAX }),
    ),
  };
}
