/** Whether a process is stopped, and how much it has computed: tells a stage that works from one that hangs. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

const PS_TIMEOUT_MS = 1_000;
/** Clock ticks a second in /proc; fixed in Linux's interface to user space. */
const TICKS_PER_SECOND = 100;

export interface ProcessState {
  /** SIGSTOP, or a debugger. */
  readonly stopped: boolean;
  readonly cpuSeconds: number;
}

/** Undefined when there is no such process, or nothing can be found out. */
export async function processState(pid: number): Promise<ProcessState | undefined> {
  return process.platform === 'linux' ? fromProc(pid) : fromPs(pid);
}

async function fromProc(pid: number): Promise<ProcessState | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name in brackets may hold anything, brackets too.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, utime, stime] = [fields[0], fields[11], fields[12]];
  if (state === undefined || utime === undefined || stime === undefined) return undefined;
  return {
    stopped: state === 'T' || state === 't',
    cpuSeconds: (Number(utime) + Number(stime)) / TICKS_PER_SECOND,
  };
}

async function fromPs(pid: number): Promise<ProcessState | undefined> {
  const text = await new Promise<string>((resolve) => {
    execFile(
      '/bin/ps',
      ['-o', 'state=,time=', '-p', String(pid)],
      { timeout: PS_TIMEOUT_MS },
      (error, stdout) => resolve(error === null ? stdout : ''),
    );
  });
  return parsePs(text);
}

/** One line of `ps -o state=,time=`: `S+    1:02.34` or `T  1-02:03:04`. */
export function parsePs(text: string): ProcessState | undefined {
  const match = /^\s*(\S+)\s+(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)\s*$/.exec(text);
  if (match === null) return undefined;
  const [, state = '', days = '0', hours = '0', minutes = '0', seconds = '0'] = match;
  return {
    stopped: state.startsWith('T'),
    cpuSeconds:
      Number(days) * 86_400 + Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds),
  };
}
