/**
 * The agent's side of every platform's warden: starts one for each engine and gives the engine's pipes, its records
 * and its end. What differs between platforms is which program the warden is, and how a pipe is made.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MinikeepError } from '@minikeep/protocol';
import {
  DEFAULT_SANDBOX_LIMITS,
  type Enforced,
  type Sandbox,
  type SandboxExit,
  type SandboxPlatform,
  type SandboxSpec,
  type SandboxSupport,
  type Violation,
} from './sandbox.ts';
import { WardenProcess } from './warden-process.ts';
import { KILL_MS_MAX } from './warden/limits.ts';
import type { RefusedOutside } from './canary/outside.ts';
import type { PatienceLimits } from '@minikeep/protocol/patience';
import { Silence } from './warden/silence.ts';
import { watchStart } from './warden/start-watch.ts';

/** What an engine's environment may contain: nothing that Node or the loader obeys. */
const ENV_NAME = /^(MINIKEEP|GGML|LLAMA)_[A-Z0-9_]{1,48}$/;
const ENV_VALUE_BYTES_MAX = 4096;
/** What a platform adds. */
export interface WardenHost {
  /** `linux x64`, as it is shown. */
  readonly platform: string;
  readonly mechanism: string;
  /** The warden's program: a bundle in dist/, or a path. */
  readonly program: string;
  /** What the system says of a running engine. */
  enforced?(pid: number): Enforced;
  /** Throws when there can be no warden on this machine, whatever is tried. */
  check(): void;
  /** A real pipe, close-on-exec: [read end, write end]. */
  makePipe(): readonly [number, number];
  /** How long a start may take; START_PATIENCE unless given. */
  readonly patience?: PatienceLimits;
}

/** dist/: beside this file in a bundle, else in the repository. */
function programPath(program: string): string {
  if (path.isAbsolute(program)) return program;
  const here = path.dirname(fileURLToPath(import.meta.url));
  const beside = path.join(here, program);
  const script = existsSync(beside) ? beside : path.resolve(here, '../../../dist', program);
  if (!existsSync(script))
    throw new MinikeepError('sandbox.not_built', `${script} is missing`, {
      next: 'Run `npm run build`.',
    });
  return script;
}

function checkEnv(env: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(env))
    if (!ENV_NAME.test(name) || value.includes('\0') || value.length > ENV_VALUE_BYTES_MAX)
      throw new MinikeepError(
        'sandbox.bad_environment',
        `the engine can't be given ${JSON.stringify(name)}`,
        {
          next: 'Only short variables named MINIKEEP_…, GGML_… or LLAMA_… reach an engine.',
        },
      );
}

/** Starts the engine of `spec`; resolves when it runs inside. */
export async function launchUnder(host: WardenHost, spec: SandboxSpec): Promise<Sandbox> {
  host.check();
  checkEnv(spec.env ?? {});
  const instance = randomBytes(8).toString('hex');
  const limits = { ...DEFAULT_SANDBOX_LIMITS, ...spec.limits };
  const program = programPath(host.program);
  const [engineStdin, input] = host.makePipe();
  const [output, engineStdout] = host.makePipe();
  const inputStream = new Socket({ fd: input, readable: false, writable: true });
  const outputStream = new Socket({ fd: output, readable: true, writable: false });
  // A broken pipe is the engine's end, which `exited` reports.
  inputStream.on('error', () => inputStream.destroy());
  outputStream.on('error', () => outputStream.destroy());

  const files: string[] = [];
  const listeners: ((violation: Violation) => void)[] = [];
  const early: Violation[] = [];
  let violations = 0;
  let blind = '';
  const silence = new Silence();
  let exit: SandboxExit | undefined;
  const started = Promise.withResolvers<number>();
  const exited = Promise.withResolvers<SandboxExit>();
  const sealed = Promise.withResolvers<void>();
  sealed.promise.catch(() => undefined); // who did not ask to seal need not hear that it failed
  let killReason = '';
  const end = (why: string): void => {
    const gone = new MinikeepError(
      'sandbox.ended',
      `the engine's sandbox ended: ${exit?.reason || why}`,
      {
        next: 'The engine is gone with it: start it again, and look at what it tried.',
      },
    );
    started.reject(gone);
    sealed.reject(gone);
    inputStream.destroy();
    exited.resolve(
      exit ?? {
        code: null,
        signal: 'SIGKILL',
        reason: killReason || why,
        violations,
        stderr_tail: '',
      },
    );
  };
  const watch = watchStart(started.reject, host.patience);
  const warden = new WardenProcess(
    {
      program,
      engine: { stdin: engineStdin, stdout: engineStdout },
      makePipe: () => host.makePipe(),
    },
    (message) => {
      switch (message.type) {
        case 'step':
          return watch.step(message.step, message.pid);
        case 'started':
          return started.resolve(message.pid);
        case 'failed':
          return started.reject(
            new MinikeepError(message.code, message.message, { next: message.next }),
          );
        case 'sealed':
          return sealed.resolve();
        case 'file':
          files.push(message.path);
          return;
        case 'violation':
          violations += message.violation.count;
          if (listeners.length === 0) early.push(message.violation);
          for (const listener of listeners) listener(message.violation);
          return;
        case 'exit':
          exit = message.exit;
          return;
        case 'blind':
          blind ||= message.why;
          return;
        case 'alive':
          silence.heard();
          return;
        case 'outside':
        case 'support':
          return;
      }
    },
    end,
  );
  warden.onPid((pid) => watch.step('warden', pid));
  const job = {
    instance,
    purpose: spec.purpose,
    entry: path.resolve(spec.entry),
    args: spec.args,
    files: spec.files.map((file) => path.resolve(file)),
    ...(spec.library_dir === undefined ? {} : { library_dir: path.resolve(spec.library_dir) }),
    env: spec.env ?? {},
    limits,
    policy: spec.purpose === 'canary' ? ('record' as const) : (spec.policy ?? 'record'),
    agent_pid: process.pid,
  };
  warden.send({ type: 'start', job });
  let pid: number;
  try {
    pid = await started.promise;
  } catch (error) {
    warden.kill();
    outputStream.destroy();
    await exited.promise;
    throw error;
  } finally {
    watch.close();
  }
  return {
    instance,
    pid,
    input: inputStream,
    output: outputStream,
    seal: () => {
      warden.send({ type: 'seal' });
      return sealed.promise;
    },
    kill: (reason) => {
      killReason ||= reason;
      warden.send({ type: 'kill', reason });
      // A warden that does not answer is killed itself, and the kernel takes the engine with it.
      const last = setTimeout(() => warden.kill(), KILL_MS_MAX);
      return exited.promise.finally(() => clearTimeout(last));
    },
    exited: exited.promise,
    killMonitor: () => warden.kill(),
    onViolation: (listener) => {
      listeners.push(listener);
      for (const violation of early.splice(0)) listener(violation);
    },
    filesRead: files,
    blind: () => (blind === '' && silence.tooLong ? 'its warden is not heard any more' : blind),
  };
}

/** Asks a warden to try everything. */
export async function supportUnder(host: WardenHost): Promise<SandboxSupport> {
  const unsupported = (what: string, next: string): SandboxSupport => ({
    ok: false,
    platform: host.platform,
    mechanism: host.mechanism,
    also: [],
    missing: [{ what, next }],
  });
  try {
    host.check();
  } catch (error) {
    const { message, next } = error as MinikeepError;
    return unsupported(message, next);
  }
  const program = programPath(host.program);
  const found = Promise.withResolvers<SandboxSupport>();
  const onTimeout = ({ message, next }: MinikeepError): void =>
    found.resolve(unsupported(message, next));
  const watch = watchStart(onTimeout, host.patience);
  const warden = new WardenProcess(
    { program, makePipe: () => host.makePipe() },
    (message) => {
      if (message.type === 'step') watch.step(message.step, message.pid);
      if (message.type === 'support') found.resolve(message.support);
      if (message.type === 'failed') found.resolve(unsupported(message.message, message.next));
    },
    (why) => found.resolve(unsupported(why, 'Run `npm run build` again.')),
  );
  warden.onPid((pid) => watch.step('warden', pid));
  warden.send({ type: 'probe' });
  try {
    return await found.promise;
  } finally {
    watch.close();
    warden.kill();
  }
}

/** What a filter around minikeep itself refuses; none where a warden can't find out. */
async function refusedOutsideUnder(host: WardenHost): Promise<readonly RefusedOutside[]> {
  const found = Promise.withResolvers<readonly RefusedOutside[]>();
  const watch = watchStart(() => found.resolve([]), host.patience);
  const warden = new WardenProcess(
    { program: programPath(host.program), makePipe: () => host.makePipe() },
    (message) => {
      if (message.type === 'outside') found.resolve(message.refused);
    },
    () => found.resolve([]),
  );
  warden.onPid((pid) => watch.step('warden', pid));
  warden.send({ type: 'outside' });
  try {
    return await found.promise;
  } finally {
    watch.close();
    warden.kill();
  }
}

const NOT_TOLD: Enforced = { state: 'unknown', finding: 'this system does not tell' };

export const platformUnder = (host: WardenHost): SandboxPlatform => ({
  support: () => supportUnder(host),
  launch: (spec) => launchUnder(host, spec),
  enforced: (pid) => Promise.resolve(host.enforced?.(pid) ?? NOT_TOLD),
  refusedOutside: () => refusedOutsideUnder(host),
});
