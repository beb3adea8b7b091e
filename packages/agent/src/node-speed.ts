/**
 * How fast this node is: measured when it is asked for, by an engine in its sandbox, and kept in the home, so that plans
 * know it from then on.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import type { SandboxPlatform } from '@minikeep/containment';
import { measureSpeed } from '@minikeep/engine';
import { MINIKEEP_VERSION, MinikeepError } from '@minikeep/protocol';
import type { NodeSpeed as SpeedMessage } from '@minikeep/protocol/v1';
import { writeKeyFile } from '@minikeep/state';
import { z } from 'zod';
import type { AgentConfig } from './config.ts';

const RESULT = 'speed.json';
const SYSCTL_MS_MAX = 5_000;
const KEPT = z.object({
  minikeep_version: z.string(),
  measured_at_seconds: z.number(),
  memory_bytes_per_second: z.number().positive(),
  operations_per_second: z.number().positive(),
});

export interface NodeSpeed {
  /** Throws `measure.busy` while a model is up here or another measurement runs, `engine.*`, `measure.failed`. */
  measure(engines: number, signal: AbortSignal): Promise<SpeedMessage>;
  /** The last measurement by this version of minikeep. */
  known(): Promise<SpeedMessage | undefined>;
}

export function nodeSpeed(
  platform: SandboxPlatform,
  config: Pick<AgentConfig, 'node' | 'program_folder'>,
  home: string | undefined,
): NodeSpeed {
  let busy = false;
  let last: SpeedMessage | undefined;
  return {
    async measure(engines, signal) {
      if (busy || engines > 0)
        throw new MinikeepError(
          'measure.busy',
          `node ${config.node} ${busy ? 'is being measured already' : 'has a model up, which would be slowed and would slow the measurement'}`,
          {
            next: busy ? 'Wait for that to end.' : 'Take the model down first: minikeep down NAME',
          },
        );
      busy = true;
      let folder: string | undefined;
      try {
        folder = await mkdtemp(path.join(tmpdir(), 'minikeep-measure-'));
        const speed = await measureSpeed({
          platform,
          programs: config.program_folder,
          folder,
          // As many as an engine gets.
          threads: Math.max(1, Math.floor(availableParallelism() / 2)),
          signal,
        });
        last = { ...speed, measuredAtSeconds: Date.now() / 1000 };
        if (home !== undefined) writeKeyFile(home, RESULT, `${JSON.stringify(document(last))}\n`);
        return last;
      } finally {
        if (folder !== undefined) await rm(folder, { recursive: true, force: true });
        busy = false;
      }
    },
    async known() {
      last ??= home === undefined ? undefined : await kept(path.join(home, RESULT));
      return last;
    },
  };
}

const document = (speed: SpeedMessage): z.infer<typeof KEPT> => ({
  minikeep_version: MINIKEEP_VERSION,
  measured_at_seconds: speed.measuredAtSeconds,
  memory_bytes_per_second: speed.memoryBytesPerSecond,
  operations_per_second: speed.operationsPerSecond,
});

/** What another version reached says nothing about this one. */
async function kept(file: string): Promise<SpeedMessage | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const found = KEPT.parse(JSON.parse(text));
    if (found.minikeep_version !== MINIKEEP_VERSION) return undefined;
    return {
      measuredAtSeconds: found.measured_at_seconds,
      memoryBytesPerSecond: found.memory_bytes_per_second,
      operationsPerSecond: found.operations_per_second,
    };
  } catch {
    return undefined;
  }
}

/** `iogpu.wired_limit_mb` in bytes; 0: the default, or no Mac. */
export async function wiredLimitBytes(): Promise<number> {
  if (process.platform !== 'darwin') return 0;
  const text = await new Promise<string>((resolve) => {
    execFile(
      '/usr/sbin/sysctl',
      ['-n', 'iogpu.wired_limit_mb'],
      { timeout: SYSCTL_MS_MAX, env: {} },
      (error, stdout) => resolve(error === null ? stdout : ''),
    );
  });
  const mebibytes = Number(text.trim());
  return Number.isSafeInteger(mebibytes) && mebibytes > 0 ? mebibytes * 1024 ** 2 : 0;
}
