/** What a canary cannot observe. It is said with every report, since silence would be read as proof. */
import type { CanaryPlatform, Declared } from './types.ts';

const EVERYWHERE: readonly Declared[] = [
  {
    name: 'timing',
    what: 'time, load and cache side channels',
    why: 'step times, token choice, processor load, caches and branch predictors carry bits that no system call shows',
  },
  {
    name: 'gpu-memory',
    what: 'residue in GPU memory',
    why: 'whether the driver clears memory between processes cannot be seen from inside a process that behaves',
  },
  {
    name: 'kernel',
    what: 'a compromised kernel, firmware or processor',
    why: 'they enforce the sandbox and would also answer the canary',
  },
  {
    name: 'answer',
    what: 'what the model writes in its answer',
    why: 'the answer is meant to leave; a reader or a renderer can be led to carry data on',
  },
  {
    name: 'memory-pressure',
    what: 'use of more memory than there is',
    why: 'trying it would harm the machine; the limits are inspected instead',
  },
];

const LINUX: readonly Declared[] = [
  {
    name: 'file-cache',
    what: 'which pages of served files are in memory, and their access times',
    why: 'reading an allowed file is allowed, and leaves traces in the page cache',
  },
  {
    name: 'clocks',
    what: 'the processor cycle counter and monotonic clocks',
    why: 'they are read without a system call',
  },
];

const DARWIN: readonly Declared[] = [
  {
    name: 'compiler-service',
    what: 'the Metal compiler service, the GPU driver and IOSurface',
    why: 'a GPU engine must reach them; they run in other processes and in the kernel',
  },
  {
    name: 'log-loss',
    what: 'refusals that the system log dropped in a burst',
    why: 'the log is lossy: a count of violations is a lower bound',
  },
  {
    name: 'start-again',
    what: 'the engine starting its own program again',
    why: 'the profile must allow that one program to run; the new one stays inside the same profile',
  },
  {
    name: 'flood',
    what: 'that a flood ends the engine in time',
    why: 'the warden counts what the lossy log lets through; the count that stops an engine is a lower bound',
  },
  {
    name: 'crash-report',
    what: 'what the crash reporter writes about an engine that crashed',
    why: 'the system writes memory excerpts outside of the sandbox; no core file is allowed',
  },
  {
    name: 'process-list',
    what: 'names and numbers of other processes',
    why: 'some calls answer with an empty list instead of an error, which a test from inside cannot tell from a refusal',
  },
];

export function declaredFor(platform: CanaryPlatform): readonly Declared[] {
  return [...EVERYWHERE, ...(platform === 'linux' ? LINUX : DARWIN)];
}
