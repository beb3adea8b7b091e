/**
 * What `--unsafe-no-sandbox` asks for: the engine as an ordinary child process, with the interface of a sandbox and
 * none of its walls. Violations are neither refused nor seen; whoever uses it counts as unsealed.
 */
import { randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import type {
  Sandbox,
  SandboxExit,
  SandboxPlatform,
  SandboxSpec,
  SandboxSupport,
} from '@minikeep/containment';
import { MinikeepError } from '@minikeep/protocol';

const STDERR_TAIL_LENGTH = 4_000;

export const unsafePlatform: SandboxPlatform = {
  support: (): Promise<SandboxSupport> =>
    Promise.resolve({
      ok: false,
      platform: `${process.platform}-${process.arch}`,
      mechanism: 'none: --unsafe-no-sandbox was asked for',
      also: [],
      missing: [],
    }),
  launch: (spec) => launch(spec),
};

async function launch(spec: SandboxSpec): Promise<Sandbox> {
  const child = spawn(process.execPath, ['--disable-sigusr1', spec.entry, ...spec.args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...spec.env },
    detached: true,
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL_LENGTH);
  });
  child.stdin.on('error', () => {});
  let reason = '';
  const exited = new Promise<SandboxExit>((resolve) => {
    child.once('close', (code, signal) =>
      resolve({
        code,
        signal,
        reason,
        violations: 0,
        // Escaped: it comes from a program that is not trusted.
        stderr_tail: JSON.stringify(stderr).slice(1, -1),
      }),
    );
  });
  const pid = await new Promise<number>((resolve, reject) => {
    child.once('spawn', () => resolve(child.pid ?? 0));
    child.once('error', (cause) =>
      reject(
        new MinikeepError('engine.start_failed', `an engine did not start: ${cause.message}`, {
          next: 'Run `npm run build`, then try again.',
          cause,
        }),
      ),
    );
  });
  return {
    instance: randomBytes(8).toString('hex'),
    pid,
    input: child.stdin,
    output: child.stdout,
    seal: () => Promise.resolve(),
    kill: (why) => {
      reason ||= why;
      child.kill('SIGKILL');
      return exited;
    },
    exited,
    onViolation: () => {},
    filesRead: [],
  };
}
