/**
 * `--network`: where machines of the cluster are, besides the networks that this machine is attached to. Linux holds
 * agent and coordinator to them (packages/containment/src/guard).
 */
import {
  attachedNetworks,
  ConnectList,
  type Network,
  parseNetwork,
} from '@minikeep/containment/guard';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { formatAddress } from '@minikeep/protocol/rpc';
import { InvalidArgumentError, Option } from 'commander';
import { isIPv4 } from 'node:net';

/** Of a stack. More is a mistake. */
const NETWORKS_MAX = 64;

export const networkOption = (): Option =>
  new Option(
    '--network <cidr>',
    'a network with machines of the cluster behind a router, 10.2.0.0/16; may be repeated',
  )
    .argParser(collect)
    .default([], 'the networks that this machine is attached to');

function collect(text: string, before: readonly string[]): string[] {
  if (parseNetwork(text) === undefined)
    throw new InvalidArgumentError('Give an address and a length, for example 10.2.0.0/16.');
  if (before.length >= NETWORKS_MAX)
    throw new InvalidArgumentError(`At most ${NETWORKS_MAX} networks.`);
  return [...before, text];
}

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
