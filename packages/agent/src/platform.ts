/** The sandbox that this agent's engines run in, and what it found out about the machine. */
import { sandboxPlatform, type SandboxPlatform, type SandboxSupport } from '@minikeep/containment';
import { toMinikeepError } from '@minikeep/protocol';
import type { HelloResponse } from '@minikeep/protocol/v1';
import { unsafePlatform } from './unsafe-platform.ts';

export function platformFor(unsafeNoSandbox: boolean): SandboxPlatform {
  return unsafeNoSandbox ? unsafePlatform : sandboxPlatform();
}

/** What the platform can enforce here; a trial that fails is a platform that can't. */
export async function supportOf(
  platform: SandboxPlatform,
): Promise<NonNullable<HelloResponse['sandbox']>> {
  try {
    return supportMessage(await platform.support());
  } catch (thrown) {
    const { message, next } = toMinikeepError(thrown);
    const missing = [{ what: message, next }];
    return { ok: false, platform: process.platform, mechanism: 'none', also: [], missing };
  }
}

function supportMessage(support: SandboxSupport): NonNullable<HelloResponse['sandbox']> {
  return {
    ok: support.ok,
    platform: support.platform,
    mechanism: support.mechanism,
    also: [...support.also],
    missing: support.missing.map(({ what, next }) => ({ what, next })),
  };
}
