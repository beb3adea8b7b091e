/**
 * What a sealed node's firewall lets through, from what the operator and the cluster's members say (pure). Everything is
 * checked here: what comes out has addresses, networks and ports, and nothing else, so that no text of anybody's reaches
 * a firewall's own language.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { isIP } from 'node:net';
import { parseNetwork, plainHost } from '../guard/connect-list.ts';

const PEERS_MAX = 1_024;
const NETWORKS_MAX = 64;
const PORTS_MAX = 16;

export interface WallWish {
  /** Every address of every other machine of the cluster, and of this one. */
  readonly peers: readonly string[];
  /** On which machines of the cluster listen for each other. */
  readonly ports: readonly number[];
  /** The API's; absent: this node has none. */
  readonly api?: { readonly port: number; readonly clients: readonly string[] } | undefined;
  /** From where SSH may come. */
  readonly admins: readonly string[];
  readonly sshPort: number;
  /** Multicast DNS on the link. */
  readonly discovery: boolean;
}

/** In order, each once. */
export interface Wall {
  readonly peers: Families;
  readonly ports: readonly number[];
  readonly api: { readonly port: number; readonly clients: Families } | undefined;
  readonly admins: Families;
  readonly sshPort: number;
  readonly discovery: boolean;
}

/** As a firewall writes them: `192.0.2.0/24`, `192.0.2.7`. */
export interface Families {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

/** Throws `seal.bad_network`, `seal.bad_port`, `seal.open_api`, `seal.too_many`. */
export function wallOf(wish: WallWish): Wall {
  if (wish.peers.length > PEERS_MAX) throw tooMany('addresses', PEERS_MAX);
  return {
    peers: families(wish.peers.map(hostOf)),
    ports: ports(wish.ports),
    api:
      wish.api === undefined
        ? undefined
        : { port: port(wish.api.port), clients: families(networks(wish.api.clients)) },
    admins: families(networks(wish.admins)),
    sshPort: port(wish.sshPort),
    discovery: wish.discovery,
  };
}

function hostOf(text: string): string {
  const host = plainHost(text);
  // An address of one link means nothing on another.
  if (host === undefined || text.includes('%')) throw badNetwork(text);
  return host;
}

function networks(texts: readonly string[]): string[] {
  if (texts.length > NETWORKS_MAX) throw tooMany('networks', NETWORKS_MAX);
  return texts.map((text) => {
    const network = parseNetwork(text);
    const host = network === undefined ? undefined : plainHost(network.address);
    if (network === undefined || host === undefined) throw badNetwork(text);
    if (network.prefix === 0) throw openApi(text);
    const whole = isIP(host) === 4 ? 32 : 128;
    return network.prefix === whole ? host : `${masked(host, network.prefix)}/${network.prefix}`;
  });
}

/** Only the bits that count: firewalls print them so, and what is read back is compared. */
function masked(host: string, prefix: number): string {
  const [bits, size, base] = isIP(host) === 4 ? [32, 8, 10] : [128, 16, 16];
  const parts = size === 8 ? host.split('.') : groupsOf(host);
  const kept = parts.map((part, i) => {
    const left = Math.min(size, Math.max(0, prefix - i * size));
    const mask = left === 0 ? 0 : ((1 << size) - 1) & ~((1 << (size - left)) - 1);
    return (parseInt(part, base) & mask).toString(base);
  });
  if (bits === 32) return kept.join('.');
  return plainHost(kept.join(':')) ?? kept.join(':');
}

/** The eight groups of an IPv6 address. */
function groupsOf(host: string): string[] {
  const [left = '', right] = host.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  return [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
}

function families(hosts: readonly string[]): Families {
  const sorted = [...new Set(hosts)].toSorted();
  const is = (version: number) => (text: string) => isIP(text.split('/')[0] ?? '') === version;
  return { v4: sorted.filter(is(4)), v6: sorted.filter(is(6)) };
}

function ports(numbers: readonly number[]): number[] {
  if (numbers.length > PORTS_MAX) throw tooMany('ports', PORTS_MAX);
  if (numbers.length === 0) throw noPorts();
  return [...new Set(numbers.map(port))].toSorted((a, b) => a - b);
}

function port(number: number): number {
  if (Number.isInteger(number) && number > 0 && number < 65_536) return number;
  throw new MinikeepError('seal.bad_port', `${number} is no port`, {
    next: 'Give a number from 1 to 65535.',
    exitCode: EXIT.usage,
  });
}

const noPorts = (): MinikeepError =>
  new MinikeepError('seal.bad_port', 'no port of the cluster is named', {
    next: 'Name those on which agents and coordinator listen.',
    exitCode: EXIT.usage,
  });
const badNetwork = (text: string): MinikeepError =>
  new MinikeepError('seal.bad_network', `"${text.slice(0, 80)}" is no address and no network`, {
    next: 'Give addresses like 192.168.1.20 or networks like 192.168.1.0/24.',
    exitCode: EXIT.usage,
  });
const openApi = (text: string): MinikeepError =>
  new MinikeepError('seal.open_api', `${text} is everybody: that can't be sealed`, {
    next: 'Name the networks of those who may ask, like 192.168.1.0/24.',
    exitCode: EXIT.usage,
  });
const tooMany = (what: string, max: number): MinikeepError =>
  new MinikeepError('seal.too_many', `more than ${max} ${what}`, {
    next: 'Name networks instead of single addresses.',
    exitCode: EXIT.usage,
  });
