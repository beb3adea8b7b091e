/**
 * A platform WITHOUT any sandbox, for tests of the engine's own behaviour (and to measure what the sandbox costs).
 * It lives in the testkit, which no shipped program may import.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Sandbox, SandboxExit, SandboxPlatform, SandboxSpec } from '@minikeep/containment';

const STDERR_KEPT = 4000;

export interface DirectOptions {
  /** Node's own flags; production engines run with --jitless. */
  readonly nodeFlags?: readonly string[];
}

export function directPlatform(options: DirectOptions = {}): SandboxPlatform {
  return {
    support: () =>
      Promise.resolve({
        ok: true,
        platform: process.platform,
        mechanism: 'none (tests only)',
        also: [],
        missing: [],
      }),
    launch: (spec) => Promise.resolve(launch(spec, options.nodeFlags ?? ['--jitless'])),
  };
}

function launch(spec: SandboxSpec, flags: readonly string[]): Sandbox {
  const child = spawn(process.execPath, [...flags, spec.entry, ...spec.args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...spec.env },
    cwd: '/',
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_KEPT);
  });
  let reason = '';
  const exited = new Promise<SandboxExit>((resolve) => {
    const end = (code: number | null, signal: string | null): void =>
      resolve({ code, signal, reason, violations: 0, stderr_tail: stderr });
    child.on('close', end);
    child.on('error', () => end(null, null));
  });
  return {
    instance: randomUUID(),
    pid: child.pid ?? -1,
    input: child.stdin,
    output: child.stdout,
    seal: () => Promise.resolve(),
    kill: (why) => {
      reason = reason === '' ? why : reason;
      killNow(child);
      return exited;
    },
    exited,
    onViolation: () => {},
    filesRead: spec.files,
  };
}

function killNow(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
}
