/** What collecting facts may do to a machine: read small files and run short commands. Tests replay recorded answers. */
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

export interface Answer {
  /** null: could not be started, or took too long. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Probe {
  run(file: string, args: readonly string[]): Promise<Answer>;
  /** Undefined when it can't be read. */
  read(file: string): string | undefined;
  /** Empty when it can't be read. */
  list(folder: string): readonly string[];
}

export interface ProbeOptions {
  readonly env: Readonly<Record<string, string>>;
  /** Of one command. */
  readonly timeoutMs: number;
  readonly outputBytesMax: number;
}

/** This machine. */
export const machineProbe = ({ env, timeoutMs, outputBytesMax }: ProbeOptions): Probe => ({
  run: (file, args) =>
    new Promise((resolve) => {
      const options = { env, cwd: '/', timeout: timeoutMs, maxBuffer: outputBytesMax };
      execFile(file, [...args], options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
        resolve({ code, stdout, stderr: stderr || (error?.message ?? '') });
      }).stdin?.end();
    }),
  read(file) {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return undefined;
    }
  },
  list(folder) {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  },
});

export const MACHINE: Probe = machineProbe({
  env: { LC_ALL: 'C' },
  timeoutMs: 15_000,
  outputBytesMax: 1024 * 1024,
});
