/** The networks that this machine is attached to now. */
import { networkInterfaces } from 'node:os';
import { type Network, parseNetwork } from './connect-list.ts';

export function attachedNetworks(): Network[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).flatMap(({ cidr, internal }) => {
      const network = internal || cidr === null ? undefined : parseNetwork(cidr);
      return network === undefined ? [] : [network];
    }),
  );
}
