/** Whether a machine of the cluster is where agent and coordinator may connect to (`--network`, shared-options.ts). */
import {
  attachedNetworks,
  ConnectList,
  type Network,
  parseNetwork,
} from '@minikeep/containment/guard';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { formatAddress } from '@minikeep/protocol/rpc';
import { isIPv4 } from 'node:net';

/** Throws `network.far`: agent and coordinator would be refused a connection to `host`, an address. */
export function assertNear(host: string, port: number, networks: readonly string[]): void {
  if (process.platform !== 'linux') return;
  const named: Network[] = networks.flatMap((text) => parseNetwork(text) ?? []);
  const list = new ConnectList({ networks: named, attached: attachedNetworks, now: () => 0 });
  if (list.add(formatAddress(host, port)).listed) return;
  const suggested = isIPv4(host) ? `${host.split('.').slice(0, 3).join('.')}.0/24` : `${host}/64`;
  throw new MinikeepError(
    'network.far',
    `${host} is on no network that this machine is attached to; nodes connect to their own networks only`,
    { next: `Name the network of those machines: --network ${suggested}`, exitCode: EXIT.usage },
  );
}
