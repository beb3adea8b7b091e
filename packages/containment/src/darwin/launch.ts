/** macOS's warden, as the agent starts it. */
import { MinikeepError } from '@minikeep/protocol';
import type { SandboxPlatform } from '../sandbox.ts';
import { platformUnder } from '../warden-client.ts';
import { makePipe } from './libc.ts';
import { MECHANISM } from './self-check.ts';

/** Throws `sandbox.unsupported_platform` on a Mac with an Intel processor. */
export function checkMac(arch: string = process.arch): void {
  if (arch !== 'arm64')
    throw new MinikeepError(
      'sandbox.unsupported_platform',
      `no sandbox for macOS on ${arch}: the engine's libraries are for Apple Silicon`,
      { next: 'Use a Mac with Apple Silicon, or Linux x86-64.' },
    );
}

export const darwinPlatform: SandboxPlatform = platformUnder({
  platform: `darwin ${process.arch}`,
  mechanism: MECHANISM,
  program: 'seatbelt.mjs',
  check: () => checkMac(),
  makePipe,
});
