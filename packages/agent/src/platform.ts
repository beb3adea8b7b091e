/** The sandbox that this agent's engines run in, and what it found out about the machine. */
import { sandboxPlatform, type SandboxPlatform, type SandboxSupport } from '@minikeep/containment';
import type { HelloResponse } from '@minikeep/protocol/v1';
import { unsafePlatform } from './unsafe-platform.ts';

export function platformFor(unsafeNoSandbox: boolean): SandboxPlatform {
  return unsafeNoSandbox ? unsafePlatform : sandboxPlatform();
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
