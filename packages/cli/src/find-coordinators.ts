/** Where a token's coordinator may be: the addresses that the token holds; on its network, what Bonjour finds. */
import type { InviteToken } from '@minikeep/protocol/rpc';

export async function* findCoordinators(
  token: InviteToken,
  signal: AbortSignal,
): AsyncGenerator<{ host: string; port: number }, void, undefined> {
  for (const host of token.hosts) {
    signal.throwIfAborted();
    yield { host, port: token.port };
  }
}
