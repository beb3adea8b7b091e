/** macOS's warden, as the agent starts it. */
import { MinikeepError } from '@minikeep/protocol';
import type { SandboxPlatform } from '../sandbox.ts';
import { platformUnder } from '../warden-client.ts';
import { enforcedOn } from './enforced.ts';
import { makePipe } from './libc.ts';
import { MECHANISM } from './self-check.ts';

/** Throws `sandbox.unsupported_platform` on a Mac with an Intel processor, `sandbox.no_unprivileged_user` as root. */
export function checkMac(
  arch: string = process.arch,
  user: number | undefined = process.geteuid?.(),
): void {
  if (arch !== 'arm64')
    throw new MinikeepError(
      'sandbox.unsupported_platform',
      `no sandbox for macOS on ${arch}: the engine's libraries are for Apple Silicon`,
      { next: 'Use a Mac with Apple Silicon, or Linux x86-64.' },
    );
  if (user === 0)
    throw new MinikeepError('sandbox.no_unprivileged_user', 'engines never run as root', {
      next: 'Run minikeep as an ordinary user (of the admin group, so that attempts can be seen).',
    });
}

export const darwinPlatform: SandboxPlatform = platformUnder({
  platform: `darwin ${process.arch}`,
  mechanism: MECHANISM,
  program: 'seatbelt.mjs',
  check: () => checkMac(),
  enforced: (pid) => enforcedOn(pid),
  makePipe,
});
