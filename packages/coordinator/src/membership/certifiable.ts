/** Addresses of a node that its certificate names: those that mean the same on every machine. */
import { isLoopback, parseAddress, plainAddress } from '@minikeep/protocol/rpc';

/** `addresses`: host:port. Each once, in order, so that two lists of the same are alike. */
export function certifiable(addresses: readonly string[]): string[] {
  const found = addresses.flatMap((address) => {
    const { host } = parseAddress(address);
    const plain = isLoopback(host) ? undefined : plainAddress(host);
    return plain === undefined ? [] : [plain];
  });
  return [...new Set(found)].toSorted();
}
