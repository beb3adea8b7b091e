/**
 * Every program of macOS that the sandbox uses, behind one interface: tests replay recorded output on Linux, and a
 * stranger sees in one place what is called and where it lies.
 */
import { execFile, spawn, type ChildProcess, type StdioOptions } from 'node:child_process';

export interface CommandResult {
  /** null when it did not end by itself, or could not be started. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Commands {
  readonly sandboxExec: string;
  readonly log: string;
  readonly shell: string;
  readonly env: string;
  readonly cat: string;
  readonly swVers: string;
  /** Runs to its end; never rejects. */
  run(file: string, args: readonly string[]): Promise<CommandResult>;
  /** Starts, in a session of its own and with nothing of our environment. */
  start(file: string, args: readonly string[], stdio: StdioOptions): ChildProcess;
}

const RUN_MS_MAX = 20_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

function run(file: string, args: readonly string[]): Promise<CommandResult> {
  return new Promise((resolve) => {
    execFile(
      file,
      [...args],
      {
        env: {},
        cwd: '/',
        timeout: RUN_MS_MAX,
        killSignal: 'SIGKILL',
        maxBuffer: OUTPUT_BYTES_MAX,
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
        resolve({ code, stdout, stderr: stderr || (error?.message ?? '') });
      },
    ).stdin?.end();
  });
}

export const MACOS_COMMANDS: Commands = {
  sandboxExec: '/usr/bin/sandbox-exec',
  log: '/usr/bin/log',
  shell: '/bin/sh',
  env: '/usr/bin/env',
  cat: '/bin/cat',
  swVers: '/usr/bin/sw_vers',
  run,
  start: (file, args, stdio) =>
    spawn(file, [...args], { stdio, env: {}, cwd: '/', detached: true }),
};
