/** Runs the machine's own npm: the ordinary way to the packages that the lockfile names. */
import { spawn } from 'node:child_process';
import { MinikeepError } from '@minikeep/protocol';
import { NPM_OUTPUT_BYTES_MAX } from './limits.ts';

export interface NpmResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `npm ARGS` in `folder` to its end. Throws `bundle.npm_missing` where there is no npm, `bundle.npm_slow` after
 * `timeoutMs`, and the signal's reason.
 */
export function npm(
  args: readonly string[],
  folder: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<NpmResult> {
  return new Promise((resolve, reject) => {
    const limit = AbortSignal.timeout(timeoutMs);
    const child = spawn('npm', args, {
      cwd: folder,
      env: { ...process.env, npm_config_update_notifier: 'false', NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: AbortSignal.any([signal, limit]),
    });
    const texts = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].setEncoding('utf8').on('data', (text: string) => {
        if (texts[name].length < NPM_OUTPUT_BYTES_MAX) texts[name] += text;
      });
    child.on('error', (cause: NodeJS.ErrnoException) => {
      if (signal.aborted) reject(signal.reason as Error);
      else if (limit.aborted)
        reject(
          new MinikeepError('bundle.npm_slow', `npm took longer than ${timeoutMs / 1000} s`, {
            next: 'Check that this machine reaches the npm registry, then run the command again.',
          }),
        );
      else
        reject(
          new MinikeepError('bundle.npm_missing', `npm could not be started: ${cause.message}`, {
            next: 'Install Node 20 or newer with its npm on this machine, then run the command again.',
            cause,
          }),
        );
    });
    child.on('close', (code) => resolve({ code, ...texts }));
  });
}
