/** Which home a command is for: --home, MINIKEEP_HOME, or the user's own. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { readSettings, type NodeSettings } from '@minikeep/state';
import { homedir } from 'node:os';
import path from 'node:path';
import type { CommonFlags } from './command-context.ts';

export interface HomeFlags extends CommonFlags {
  readonly home?: string;
}

export function homeFolder(flags: HomeFlags, env: NodeJS.ProcessEnv = process.env): string {
  const named = flags.home ?? env['MINIKEEP_HOME'] ?? '';
  return path.resolve(named === '' ? path.join(homedir(), '.minikeep') : named);
}

/** The settings of the node that the home belongs to. Throws `home.no_cluster`. */
export function nodeSettings(folder: string): NodeSettings {
  const settings = readSettings(folder);
  if (settings !== undefined) return settings;
  throw new MinikeepError('home.no_cluster', `${folder} belongs to no cluster`, {
    next: 'Make a cluster with `minikeep init`, join one with `minikeep join`, or name another folder: --home DIR',
    exitCode: EXIT.usage,
  });
}
