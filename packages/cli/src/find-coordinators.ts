/** Where a token's coordinator may be: the addresses that the token holds; on its network, what Bonjour finds. */
import { discoveryId, find } from '@minikeep/discovery';
import type { InviteToken } from '@minikeep/protocol/rpc';

export async function* findCoordinators(
  token: InviteToken,
  discovery: boolean,
  signal: AbortSignal,
): AsyncGenerator<{ host: string; port: number }, void, undefined> {
  const tried = new Set<string>();
  for (const host of token.hosts) {
    signal.throwIfAborted();
    tried.add(`${host} ${token.port}`);
    yield { host, port: token.port };
  }
  if (!discovery) return;
  for await (const { hosts, enrolmentPort: port } of find(discoveryId(token.pin), signal))
    for (const host of hosts) {
      signal.throwIfAborted();
      if (tried.has(`${host} ${port}`)) continue;
      tried.add(`${host} ${port}`);
      yield { host, port };
    }
}
