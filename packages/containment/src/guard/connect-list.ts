/**
 * Where a trusted process may connect. It names each address itself before it connects, but only addresses near by are
 * taken: this machine's own, those of the networks that it is attached to, and of networks that the operator named. So
 * code that was planted in the process can't put an address of the outside world on the list. Names of hosts are never
 * taken, and neither are the ports at which resolvers answer: a question carries text, and resolvers pass it on.
 */
import { BlockList, isIP, isIPv4 } from 'node:net';
import { INTERFACES_MS, NETWORKS_MAX, PEERS_MAX } from './limits.ts';

/** DNS, multicast DNS, DNS over TLS. */
const NEVER_PORTS: ReadonlySet<number> = new Set([53, 853, 5353]);
const PORT_MAX = 65_535;

export interface Network {
  readonly address: string;
  readonly prefix: number;
}

/** `10.1.0.0/16`, `fd00:1::/64`; undefined: not a network. An address alone is a network of one. */
export function parseNetwork(text: string): Network | undefined {
  const [address = '', prefixText, ...more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more.length > 0 || address.includes('%')) return undefined;
  const longest = family === 4 ? 32 : 128;
  const prefix = prefixText === undefined ? longest : Number(prefixText);
  if (prefixText !== undefined && !/^\d{1,3}$/.test(prefixText)) return undefined;
  return prefix > longest ? undefined : { address, prefix };
}

/** host:port with an address, or localhost: what it means, each once. Undefined: nothing that can be listed. */
export function parseEndpoint(
  text: string,
): { readonly hosts: readonly string[]; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]{1,100})\]|([^:]{1,100})):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [, v6, v4, portText] = match;
  const port = Number(portText);
  if (port > PORT_MAX) return undefined;
  if (v4 === 'localhost') return { hosts: ['127.0.0.1', '::1'], port };
  const host = plainHost(v6 ?? v4 ?? '');
  return host === undefined ? undefined : { hosts: [host], port };
}

/** One way to write an address: without a zone, IPv4 in IPv6 as IPv4. Undefined: no address. */
export function plainHost(host: string): string | undefined {
  const [address = ''] = host.split('%');
  const family = isIP(address);
  if (family === 0) return undefined;
  if (family === 4) return address;
  const plain = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(plain);
  if (mapped === null) return plain;
  const [high, low] = [parseInt(mapped[1] ?? '', 16), parseInt(mapped[2] ?? '', 16)];
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

export function blockListOf(networks: readonly Network[]): BlockList {
  const list = new BlockList();
  for (const { address, prefix } of networks.slice(0, NETWORKS_MAX))
    list.addSubnet(address, prefix, isIPv4(address) ? 'ipv4' : 'ipv6');
  return list;
}

const holds = (list: BlockList, host: string): boolean =>
  list.check(host, isIPv4(host) ? 'ipv4' : 'ipv6');

const LOOPBACK = blockListOf([
  { address: '127.0.0.0', prefix: 8 },
  { address: '::1', prefix: 128 },
]);
/** Nobody's address: they reach this machine itself, or many at once. */
const NOBODYS = blockListOf([
  { address: '0.0.0.0', prefix: 8 },
  { address: '224.0.0.0', prefix: 3 },
  { address: '::', prefix: 128 },
  { address: 'ff00::', prefix: 8 },
]);

export interface ConnectListOptions {
  readonly networks: readonly Network[];
  /** Of this machine's interfaces now. */
  readonly attached: () => readonly Network[];
  /** Monotonic, milliseconds. */
  readonly now: () => number;
}

export interface Listed {
  readonly listed: boolean;
  /** Not known before. */
  readonly fresh: boolean;
  /** Why it was not taken. */
  readonly why: string;
}

const refused = (why: string): Listed => ({ listed: false, fresh: true, why });

export class ConnectList {
  readonly #options: ConnectListOptions;
  readonly #named: BlockList;
  /** `host port`, the oldest first. */
  readonly #peers = new Set<string>();
  #attached: BlockList | undefined;
  #lookedMs = -Infinity;

  constructor(options: ConnectListOptions) {
    this.#options = options;
    this.#named = blockListOf(options.networks);
  }

  get size(): number {
    return this.#peers.size;
  }

  add(address: string): Listed {
    const endpoint = parseEndpoint(address);
    if (endpoint === undefined) return refused('not an address with a port');
    const { hosts, port } = endpoint;
    if (port === 0 || NEVER_PORTS.has(port)) return refused('no port of a node');
    const far = hosts.find((host) => !this.#near(host));
    if (far !== undefined)
      return refused('on no network of this machine, and on none that the operator named');
    const keys = hosts.map((host) => `${host} ${port}`);
    const fresh = keys.some((key) => !this.#peers.has(key));
    for (const key of keys) {
      // Used again: the last to go.
      this.#peers.delete(key);
      this.#peers.add(key);
      if (this.#peers.size > PEERS_MAX) this.#peers.delete(this.#peers.values().next().value ?? '');
    }
    return { listed: true, fresh, why: '' };
  }

  /** `host` as `plainHost` writes it. */
  allows(host: string, port: number): boolean {
    return this.#peers.has(`${host} ${port}`);
  }

  #near(host: string): boolean {
    if (holds(LOOPBACK, host)) return true;
    if (holds(NOBODYS, host)) return false;
    if (holds(this.#named, host)) return true;
    const now = this.#options.now();
    if (this.#attached === undefined || now - this.#lookedMs >= INTERFACES_MS) {
      this.#lookedMs = now;
      this.#attached = blockListOf(this.#options.attached());
    }
    return holds(this.#attached, host);
  }
}
