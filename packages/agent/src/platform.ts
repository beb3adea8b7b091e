/** The sandbox that this agent's engines run in, and what it found out about the machine. */
import type { SandboxPlatform, SandboxSupport } from '@minikeep/containment';
import { MinikeepError } from '@minikeep/protocol';
import type { HelloResponse } from '@minikeep/protocol/v1';
import { unsafePlatform } from './unsafe-platform.ts';

const MISSING = {
  what: 'the sandbox of this platform is not part of this build',
  next: 'Build a version that has it, or accept engines without walls: --unsafe-no-sandbox.',
};

const noPlatform: SandboxPlatform = {
  support: () =>
    Promise.resolve({
      ok: false,
      platform: process.platform,
      mechanism: 'none',
      also: [],
      missing: [MISSING],
    }),
  launch: () =>
    Promise.reject(new MinikeepError('sandbox.unsupported', MISSING.what, { next: MISSING.next })),
};

export function platformFor(unsafeNoSandbox: boolean): SandboxPlatform {
  return unsafeNoSandbox ? unsafePlatform : noPlatform;
}

export function supportMessage(support: SandboxSupport): NonNullable<HelloResponse['sandbox']> {
  return {
    ok: support.ok,
    platform: support.platform,
    mechanism: support.mechanism,
    also: [...support.also],
    missing: support.missing.map(({ what, next }) => ({ what, next })),
  };
}
