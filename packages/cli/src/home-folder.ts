/**
 * Which home a command is for: --home, MINIKEEP_HOME, the user's own, or that of the service installed here. Root acts
 * as whoever the home belongs to: nothing in it may become root's, and no file is read that its owner may not read.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { serviceHome, SYSTEM_HOMES } from '@minikeep/service';
import { readSettings, type NodeSettings } from '@minikeep/state';
import { existsSync, statSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import path from 'node:path';
import type { CommonFlags } from './command-context.ts';

export interface HomeFlags extends CommonFlags {
  readonly home?: string;
}

export function homeFolder(flags: HomeFlags, env: NodeJS.ProcessEnv = process.env): string {
  const named = flags.home ?? env['MINIKEEP_HOME'] ?? '';
  const folder = named === '' ? defaultHome() : path.resolve(named);
  actAsOwner(folder);
  return folder;
}

/** Root's machine-wide, as a service has it; a person's in their own folder. */
export function defaultHome(): string {
  const own = path.join(homedir(), '.minikeep');
  if (existsSync(own)) return own;
  const system = process.geteuid?.() === 0 ? SYSTEM_HOMES[process.platform] : undefined;
  return serviceHome() ?? system ?? own;
}

function actAsOwner(folder: string): void {
  if (process.geteuid?.() !== 0) return;
  const facts = statSync(folder, { throwIfNoEntry: false });
  if (facts === undefined || facts.uid === 0) return;
  const { uid, gid } = facts;
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
  // Caches go where that user may write.
  process.env['HOME'] = homeOfUser() ?? folder;
}

function homeOfUser(): string | undefined {
  try {
    return userInfo().homedir;
  } catch {
    return undefined;
  }
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

/** Repeats --home in what to type next, where it was given. */
export function homeHint(flags: HomeFlags): string {
  return flags.home === undefined ? '' : ` --home ${typedPath(flags.home)}`;
}

/** As a shell takes it for one word, however it is written. */
export const typedPath = (file: string): string =>
  /^[\w@%+=:,./-]+$/.test(file) ? file : `'${file.replaceAll("'", `'\\''`)}'`;
