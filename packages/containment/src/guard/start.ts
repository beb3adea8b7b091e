/**
 * How a trusted process is started, by whoever starts one: under a guard where the platform has it. Everything that
 * starts an agent or a coordinator asks here.
 */
import path from 'node:path';
import type { GuardedProcess } from '../sandbox.ts';
import type { GuardJob } from './control.ts';

export { attachedNetworks } from './attached.ts';
export { ConnectList, type Network, parseNetwork } from './connect-list.ts';

export interface TrustedProgram {
  /** A file in dist/; the guard's lies beside it. */
  readonly program: string;
  readonly flags: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export type GuardWish = Pick<GuardJob, 'listen' | 'networks' | 'discovery'>;

export interface StartCommand {
  readonly args: string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

const GUARD_OPTIONS = [
  '--disable-sigusr1',
  '--no-warnings',
  '--jitless',
  '--max-old-space-size=48',
  '--max-semi-space-size=1',
  '--v8-pool-size=1',
];

/** What this Node is to be started with. Without a wish, or where there is no guard: the program itself. */
export function startCommand(
  purpose: GuardedProcess,
  { program, flags, args, env }: TrustedProgram,
  wish: GuardWish | undefined,
  platform: NodeJS.Platform = process.platform,
): StartCommand {
  if (wish === undefined || platform !== 'linux')
    return { args: [...flags, program, ...args], env };
  const job: GuardJob = { purpose, program, flags, args, ...wish, starter_pid: process.pid };
  return {
    args: [...GUARD_OPTIONS, path.join(path.dirname(program), 'guard.mjs'), JSON.stringify(job)],
    // One thread in the pool: the one that gets the filter.
    env: { ...env, UV_THREADPOOL_SIZE: '1' },
  };
}
