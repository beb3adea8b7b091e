/** One engine under one warden: sets everything up from a job, reports what happens, and ends the engine. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import type { SandboxExit, Struck } from '../sandbox.ts';
import type { Attempt } from '../warden/attempt.ts';
import type { FromWarden, WardenJob } from '../warden/control.ts';
import { escapeBytes, escapeTail } from '../warden/escape.ts';
import { STDERR_TAIL_BYTES } from '../warden/limits.ts';
import { nodeOptions } from '../warden/node-options.ts';
import { Recorder, type RefusedBy } from '../warden/recorder.ts';
import type { Supervised } from '../warden/serve.ts';
import { Strike } from '../warden/strike.ts';
import { hostArch } from './arch.ts';
import { FileTable } from './files.ts';
import { machineUidCandidates } from './identity.ts';
import { Judge } from './judge.ts';
import { handshake, type OnStep, startLauncher } from './launcher-client.ts';
import { lastLook } from './last-look.ts';
import { libraryClosure, LOADER_CACHE } from './libraries.ts';
import { CRASH_SIGNALS, SIGABRT } from './rules.ts';
import { serve, type Serving } from './serve.ts';

const FOLD_MS = 1_000;
const STRIKE_LOOK_MS = 100;
const CRASH_NAMES: Readonly<Record<number, string>> = {
  4: 'SIGILL',
  5: 'SIGTRAP',
  [SIGABRT]: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  11: 'SIGSEGV',
};

/** What the loader and Node read besides the job's own files. */
function programFiles(job: WardenJob): {
  files: string[];
  loader: ReturnType<typeof libraryClosure>;
} {
  const folder = path.dirname(job.entry);
  const own = [job.entry, path.join(folder, 'koffi.node')].filter((file) => existsSync(file));
  const libraries =
    job.library_dir === undefined
      ? []
      : readdirSync(job.library_dir, { withFileTypes: true })
          .filter((entry) => entry.isFile() || entry.isSymbolicLink())
          .map((entry) => path.join(job.library_dir ?? '', entry.name));
  const elf = [process.execPath, ...own.filter((f) => f.endsWith('.node')), ...libraries];
  const loader = libraryClosure(
    elf,
    job.library_dir === undefined ? [] : [path.resolve(job.library_dir)],
  );
  const cache = existsSync(LOADER_CACHE) ? [LOADER_CACHE] : [];
  return { files: [...own, ...libraries, ...loader.files, ...cache], loader };
}

/** A crash caught by the handler that the engine installs (its native/guard.ts) leaves with the signal's number as its code. */
function crashOf(code: number | null, signal: NodeJS.Signals | null): string | undefined {
  if (signal === null)
    return code !== null && (CRASH_SIGNALS as readonly number[]).includes(code)
      ? CRASH_NAMES[code]
      : undefined;
  return Object.values(CRASH_NAMES).includes(signal) ? signal : undefined;
}

/** `report` is called in order; after the steps comes `started`, or `failed` as a rejection. */
export async function supervise(
  job: WardenJob,
  wires: { readonly stdin: number; readonly stdout: number },
  launcherScript: string,
  report: (message: FromWarden) => void,
): Promise<Supervised> {
  const arch = hostArch();
  const isRoot = process.geteuid?.() === 0;
  const uids = isRoot ? machineUidCandidates(process.pid) : [];
  const started = startLauncher(process.execPath, launcherScript, arch, wires);
  const { child } = started;
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: null, signal: null }));
  });
  const stderrTail = tailOf(started.stderr);
  report({ type: 'step', step: 'files' });
  const { files, loader } = programFiles(job);
  const table = new FileTable([
    ...files.map((file) => ({ path: file, role: 'program' as const })),
    ...job.files.map((file) => ({ path: file, role: 'data' as const })),
  ]);
  const env = { PATH: '/nonexistent', LANG: 'C', UV_USE_IO_URING: '0', ...job.env };
  const launcherJob = {
    uids,
    is_root: isRoot,
    argv: [...nodeOptions(), job.entry, ...job.args],
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    threads_max: job.limits.threads_max,
    warden_pid: process.pid,
  };
  const onStep: OnStep = (step, pid) =>
    report({ type: 'step', step, ...(pid === undefined ? {} : { pid }) });
  const launched = await handshake(started, arch, launcherJob, onStep).catch((error: unknown) => {
    child.kill('SIGKILL');
    throw error;
  });

  let reason = '';
  const recorder = new Recorder(job.instance, job.purpose, job.limits, () => Date.now() / 1000);
  const kill = (why: string): void => {
    if (reason === '') reason = why;
    child.kill('SIGKILL');
  };
  const strike = new Strike(job.policy, () => performance.now());
  let struck: Struck | undefined;
  const stopBecauseOf = ({ kind, operation }: Attempt): void => {
    if (struck !== undefined) return;
    // It stands still while it is looked at.
    child.kill('SIGSTOP');
    struck = { kind, operation, ...lastLook(launched.pid, () => serving.maps()) };
    kill(`it was stopped because of what it tried (${kind}: ${operation})`);
  };
  const record = (attempt: Attempt, refusedBy?: RefusedBy): void => {
    const last = strike.on(attempt) === 'strike';
    const { violation, stop } = recorder.record(attempt, refusedBy, last);
    if (violation !== undefined) report({ type: 'violation', violation });
    if (last) stopBecauseOf(attempt);
    else if (stop) kill(`stopped after ${recorder.total} refused attempts`);
  };
  const engine = {
    pid: launched.pid,
    ownsThread: (tid: number): boolean => existsSync(`/proc/${launched.pid}/task/${tid}`),
    // The folder's link count is the number of threads and two more.
    liveThreads: (): number => statSync(`/proc/${launched.pid}/task`).nlink - 2,
  };
  const judge = new Judge(
    {
      arch,
      purpose: job.purpose,
      policy: job.policy,
      files: table,
      program: process.execPath,
      entry: job.entry,
      loader,
      engine,
      threads_max: job.limits.threads_max,
      monitors: new Set([process.pid, job.agent_pid]),
      now: () => performance.now(),
    },
    launched.ready.program_fd,
  );
  const filesSeen = new Set<string>();
  const serving: Serving = serve({
    arch,
    listener: launched.listener,
    judge,
    pid: launched.pid,
    user: { uid: launched.ready.uid, gid: launched.ready.gid },
    onEngine: () =>
      report({ type: 'started', pid: launched.pid, landlock_abi: launched.ready.landlock_abi }),
    onAttempt: (attempt) => record(attempt),
    onFile: (file) => {
      if (filesSeen.has(file)) return;
      filesSeen.add(file);
      report({ type: 'file', path: file });
    },
    onFault: (error) =>
      kill(
        `the warden could not answer: ${error instanceof Error ? error.message : String(error)}`,
      ),
  });
  const folding = setInterval(() => {
    for (const violation of recorder.flush('pause')) report({ type: 'violation', violation });
  }, FOLD_MS);
  const striking = setInterval(() => {
    if (strike.due() && strike.pending !== undefined) stopBecauseOf(strike.pending);
  }, STRIKE_LOOK_MS);

  const ended = exited.then(({ code, signal }) => {
    clearInterval(folding);
    clearInterval(striking);
    serving.close();
    const crash = reason === '' ? crashOf(code, signal) : undefined;
    if (crash !== undefined)
      record(
        { kind: 'crash', operation: crash, target: escapeBytes(stderrTail().subarray(-200)) },
        'kernel',
      );
    if (signal === 'SIGSYS')
      record(
        { kind: 'other', operation: 'SIGSYS', target: 'a call of a foreign architecture' },
        'seccomp',
      );
    for (const violation of recorder.flush('end')) report({ type: 'violation', violation });
    const exit: SandboxExit = {
      code,
      signal,
      reason,
      violations: recorder.total,
      stderr_tail: escapeTail(stderrTail(), STDERR_TAIL_BYTES),
      ...(struck === undefined ? {} : { struck }),
    };
    report({ type: 'exit', exit });
  });
  return {
    seal: () => {
      judge.advance('sealed');
      report({ type: 'sealed' });
    },
    kill,
    ended,
  };
}

/** Keeps the last bytes of a pipe. */
function tailOf(fd: number): () => Buffer {
  let tail = Buffer.alloc(0);
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-STDERR_TAIL_BYTES);
  });
  socket.on('error', () => socket.destroy());
  socket.unref();
  return () => tail;
}
