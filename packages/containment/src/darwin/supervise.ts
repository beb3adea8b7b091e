/**
 * One engine under Seatbelt: starts it inside, watches the log for what it tries, and ends it.
 *
 * The profile is an argument of sandbox-exec, which turns into the engine: nobody finds the tag in the engine's own
 * arguments, and the file system holds no copy. `env -i` takes away what the shell added.
 */
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import type { Struck, Violation } from '../sandbox.ts';
import type { Attempt } from '../warden/attempt.ts';
import type { FromWarden, WardenJob } from '../warden/control.ts';
import { escapeBytes } from '../warden/escape.ts';
import { STDERR_TAIL_BYTES } from '../warden/limits.ts';
import { NOTHING_SEEN } from '../warden/last-look.ts';
import { nodeOptions } from '../warden/node-options.ts';
import { Recorder, type RefusedBy } from '../warden/recorder.ts';
import type { Supervised } from '../warden/serve.ts';
import { Strike } from '../warden/strike.ts';
import type { Commands } from './commands.ts';
import { guard } from './guard.ts';
import { isKnownAtStart } from './known.ts';
import { LOG_DRAIN_MS, ULIMITS } from './limits.ts';
import { type Clock, LogWatch, newTag, type Refusal, SYSTEM_CLOCK } from './log-watch.ts';
import { seatbeltProfile } from './profile.ts';

const FOLD_MS = 1_000;
const CRASHES: readonly string[] = [
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGSEGV',
  'SIGSYS',
];
/** The engine's own handlers leave with the signal's number, as macOS counts. */
const CRASH_CODES: Readonly<Record<number, string>> = {
  4: 'SIGILL',
  5: 'SIGTRAP',
  8: 'SIGFPE',
  10: 'SIGBUS',
  11: 'SIGSEGV',
};

export interface SuperviseParts {
  readonly commands: Commands;
  readonly clock?: Clock;
  /** Descriptors of the engine's stdin and stdout. */
  readonly wires: { readonly stdin: number; readonly stdout: number };
  readonly report: (message: FromWarden) => void;
}

/** A regular file's canonical path. Throws `sandbox.bad_file`. */
function regular(file: string): string {
  const why = (): string | undefined => {
    if (!existsSync(file)) return 'is not there';
    return statSync(file).isFile() ? undefined : 'is not a regular file';
  };
  const fault = why();
  if (fault !== undefined)
    throw new MinikeepError('sandbox.bad_file', `${file} ${fault}`, {
      next: 'An engine is given existing regular files, and nothing else.',
    });
  return realpathSync(file);
}

function filesOf(job: WardenJob): string[] {
  const own = [job.entry, path.join(path.dirname(job.entry), 'koffi.node')].filter((file) =>
    existsSync(file),
  );
  const libraries =
    job.library_dir === undefined
      ? []
      : readdirSync(job.library_dir).map((name) => path.join(job.library_dir ?? '', name));
  return [...own, ...libraries, ...job.files].map(regular);
}

/** Arguments of the shell that becomes the engine. */
export function launchArguments(
  commands: Commands,
  job: WardenJob,
  profile: string,
  program: string,
): string[] {
  const env = { PATH: '/nonexistent', LANG: 'C', TZ: 'UTC', ...job.env };
  return [
    '-c',
    `${ULIMITS} && exec "$@"`,
    'minikeep',
    commands.env,
    '-i',
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    commands.sandboxExec,
    '-p',
    profile,
    program,
    ...nodeOptions(),
    realpathSync(job.entry),
    ...job.args,
  ];
}

/** Rejects with `sandbox.bad_file`, `sandbox.bad_path`, `sandbox.start_failed`. After the steps comes `started`. */
export async function supervise(job: WardenJob, parts: SuperviseParts): Promise<Supervised> {
  const { commands, report, clock = SYSTEM_CLOCK } = parts;
  const tag = newTag();
  const program = realpathSync(process.execPath);
  const profile = seatbeltProfile({
    tag,
    program,
    files: filesOf(job),
    gpu: job.purpose !== 'text',
  });
  const recorder = new Recorder(job.instance, job.purpose, job.limits, () => Date.now() / 1000);
  const strike = new Strike(job.policy, () => performance.now());
  let struck: Struck | undefined;
  let reason = '';
  let phase: 'start' | 'sealed' = 'start';
  let end: (why: string) => void = () => undefined;
  const kill = (why: string): void => {
    if (reason === '') reason = why;
    end(why);
  };
  const send = (violation: Violation, seen: boolean): void =>
    report({
      type: 'violation',
      violation: { ...violation, seen_by: seen ? ['seatbelt-log'] : [] },
    });
  const record = (attempt: Attempt, refusedBy: RefusedBy, times = 1): void => {
    for (let i = 0; i < Math.min(times, job.limits.violations_max); i += 1) {
      const last = strike.on(attempt) === 'strike';
      const { violation, stop } = recorder.record(attempt, refusedBy, last);
      if (violation !== undefined) send(violation, refusedBy === 'seatbelt');
      if (last) {
        const { kind, operation } = attempt;
        struck ??= { kind, operation, ...NOTHING_SEEN };
        return kill(`it was stopped because of what it tried (${kind}: ${operation})`);
      }
      if (stop) return kill(`stopped after ${recorder.total} refused attempts`);
    }
  };
  const onRefusal = (refusal: Refusal): void => {
    if (phase === 'start' && isKnownAtStart(refusal)) return;
    const { kind, operation, target, count } = refusal;
    record({ kind, operation, target }, 'seatbelt', count);
  };
  const watch = new LogWatch({
    commands,
    clock,
    tag,
    onRefusal,
    onBlind: (why) => report({ type: 'blind', why }),
  });
  report({ type: 'step', step: 'log' });
  await watch.start();
  report({ type: 'step', step: 'program' });

  const child = commands.start(commands.shell, launchArguments(commands, job, profile, program), [
    parts.wires.stdin,
    parts.wires.stdout,
    'pipe',
  ]);
  let stderr = Buffer.alloc(0);
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_TAIL_BYTES);
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: null, signal: null }));
  });
  const { pid } = child;
  if (pid === undefined) {
    watch.close();
    throw new MinikeepError('sandbox.start_failed', `${commands.shell} could not be started`, {
      next: 'Run `minikeep canary` to see what this machine can enforce.',
    });
  }
  end = () => void child.kill('SIGKILL');
  guard(commands, child, () => kill('its guard is gone'));
  if (reason !== '') end(reason);
  report({ type: 'started', pid, landlock_abi: 0 });
  const folding = setInterval(() => {
    for (const violation of recorder.flush('pause')) send(violation, true);
  }, FOLD_MS);

  const ended = exited.then(async ({ code, signal }) => {
    await clock.sleep(LOG_DRAIN_MS);
    clearInterval(folding);
    watch.close();
    const crash = signal === null ? CRASH_CODES[code ?? 0] : CRASHES.find((s) => s === signal);
    if (reason === '' && crash !== undefined)
      record(
        { kind: 'crash', operation: crash, target: escapeBytes(stderr.subarray(-200)) },
        'kernel',
      );
    for (const violation of recorder.flush('end')) send(violation, true);
    report({
      type: 'exit',
      exit: {
        code,
        signal,
        reason,
        violations: recorder.total,
        stderr_tail: escapeBytes(stderr, STDERR_TAIL_BYTES),
        ...(struck === undefined ? {} : { struck }),
      },
    });
  });
  return {
    seal: () => {
      phase = 'sealed';
      report({ type: 'sealed' });
    },
    kill,
    ended,
  };
}
