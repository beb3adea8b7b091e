/** Starts the real program, as a user would, and says what it did. */
import { REPOSITORY } from '@minikeep/testkit';
import { spawn, type ChildProcess } from 'node:child_process';
import path from 'node:path';

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Another user to run as (root only). */
  readonly uid?: number;
  /** A program with arguments that starts minikeep (a filter, another user). */
  readonly by?: readonly string[];
  /** In place of this checkout's, with its first arguments. */
  readonly program?: readonly string[];
  readonly timeoutMs?: number;
  readonly onStart?: (child: ChildProcess) => void;
  readonly onStdout?: (text: string, child: ChildProcess) => void;
}

const TIMEOUT_MS = 120_000;

/** Runs `minikeep ARGS` to its end; rejects when it takes too long. */
export function minikeep(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const started = performance.now();
  const [command, ...rest] = [
    ...(options.by ?? []),
    ...(options.program ?? [path.join(REPOSITORY, 'minikeep')]),
    ...args,
  ];
  const child = spawn(command ?? '', rest, {
    cwd: options.cwd,
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    env: { ...process.env, NO_COLOR: '1', ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    options.onStdout?.(stdout, child);
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input);
  options.onStart?.(child);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`minikeep ${args.join(' ')} did not end\n${stdout}\n${stderr}`));
    }, options.timeoutMs ?? TIMEOUT_MS);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** The error that a command printed with --json: exactly one line on stderr. */
export function jsonError(ended: Ended): { code: string; message: string; next: string } {
  const lines = ended.stderr.split('\n').filter((line) => line !== '');
  if (lines.length !== 1) throw new Error(`expected one line on stderr, got:\n${ended.stderr}`);
  return (JSON.parse(lines[0] ?? '') as { error: { code: string; message: string; next: string } })
    .error;
}
