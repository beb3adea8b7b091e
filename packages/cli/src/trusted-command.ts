/** How agent and coordinator are started, by whichever command starts them. */
import type { GuardedProcess } from '@minikeep/containment';
import { startCommand, type GuardWish, type StartCommand } from '@minikeep/containment/guard';
import { TRUSTED_NODE } from '@minikeep/protocol';

/** Arguments and environment for this Node. Without `guard` nothing holds the process to a connect list. */
export function trustedCommand(
  purpose: GuardedProcess,
  program: string,
  args: readonly string[],
  guard: GuardWish | undefined,
): StartCommand {
  // Nothing of our environment changes how Node behaves there.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const { flags } = TRUSTED_NODE;
  return startCommand(
    purpose,
    { program, flags, args, env: { ...env, ...TRUSTED_NODE.env } },
    guard,
  );
}
