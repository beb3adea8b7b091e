/** Linux's warden, as the agent starts it. */
import type { SandboxPlatform } from '../sandbox.ts';
import { platformUnder } from '../warden-client.ts';
import { hostArch } from './arch.ts';
import { enforcedOn } from './enforced.ts';
import { makePipe } from './libc.ts';
import { MECHANISM } from './probe.ts';

export const linuxPlatform: SandboxPlatform = platformUnder({
  platform: `linux ${process.arch}`,
  mechanism: MECHANISM,
  program: 'warden.mjs',
  check: () => void hostArch(),
  enforced: (pid) => enforcedOn(pid),
  makePipe: () => makePipe(hostArch().numbers),
});
