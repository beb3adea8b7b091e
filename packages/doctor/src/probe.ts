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

const RUN_MS_MAX = 15_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

export const MACHINE: Probe = {
  run: (file, args) =>
    new Promise((resolve) => {
      const options = {
        env: { LC_ALL: 'C' },
        cwd: '/',
        timeout: RUN_MS_MAX,
        maxBuffer: OUTPUT_BYTES_MAX,
      };
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
};
