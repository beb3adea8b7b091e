/** host:port, as people type it and as gRPC wants it; and the addresses of this machine. */
import { isIP, isIPv4 } from 'node:net';
import { ADDRESS_ENTRY } from './identity.ts';
import { networkInterfaces } from 'node:os';
import { EXIT, MinikeepError } from './errors.ts';
import { isHost } from './host.ts';

const HOSTS_MAX = 16;
const PORT_MAX = 65_535;

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  /** Undefined: none was given. */
  readonly port: number | undefined;
}

/** `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address. Throws `address.invalid`. */
export function parseAddress(text: string): HostPort {
  const match =
    /^\[(?<v6>[^\]]+)\](?::(?<p6>\d{1,5}))?$|^(?<host>[^:]+)(?::(?<port>\d{1,5}))?$/.exec(text);
  const groups = match?.groups ?? (text.includes(':') ? { v6: text } : {});
  const host = groups['v6'] ?? groups['host'] ?? '';
  const portText = groups['p6'] ?? groups['port'];
  const port = portText === undefined ? undefined : Number(portText);
  const isV6 = groups['v6'] !== undefined;
  if (!isHost(host) || isV6 !== host.includes(':') || (port !== undefined && port > PORT_MAX))
    throw new MinikeepError('address.invalid', `"${text.slice(0, 120)}" is not an address`, {
      next: 'Give HOST or HOST:PORT, for example 192.168.1.20:7420 or [fd00::20]:7420.',
      exitCode: EXIT.usage,
    });
  return { host, port };
}

export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** gRPC's name of the caller's address, without the port. */
export function hostOf(peer: string): string {
  const host = peer
    .replace(/^ipv[46]:/, '')
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '');
  return host.replace(/^::ffff:(?=\d+\.)/, '');
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));

/** Of `addresses` (host:port) those that mean the same on every machine; all, if none does. */
export function fromElsewhere(addresses: readonly string[]): string[] {
  const outside = addresses.filter((address) => !isLoopback(parseAddress(address).host));
  return outside.length > 0 ? outside : [...addresses];
}

/** Addresses that mean every interface. */
export const isAnyAddress = (host: string): boolean => host === '0.0.0.0' || host === '::';

/**
 * Where others reach what listens on `host`: the host itself, or for "every interface" each address of this machine
 * that others may reach. Private IPv4 first (what a drawer of machines uses), then other IPv4, then IPv6. Link-local
 * IPv6 is left out: it means nothing without the reader's own interface.
 */
export function reachableHosts(host: string): string[] {
  if (!isAnyAddress(host)) return [host];
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !/^fe80:/i.test(address))
    .filter(({ family }) => host === '::' || family === 'IPv4')
    .map(({ address }) => address);
  const rank = (address: string): number =>
    /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.)/.test(address)
      ? 0
      : address.includes(':')
        ? 2
        : 1;
  const sorted = found
    .toSorted((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
    .slice(0, HOSTS_MAX);
  // A machine without any network is still a cluster of one.
  return sorted.length === 0 ? ['127.0.0.1'] : sorted;
}

/** The addresses in a certificate's subject alternative name as Node prints it, as `plainAddress` writes them. */
export function addressesOfSubjectAltName(subjectAltName: string | undefined): string[] {
  return (subjectAltName ?? '').split(', ').flatMap((entry) => {
    const address = entry.startsWith(ADDRESS_ENTRY)
      ? plainAddress(entry.slice(ADDRESS_ENTRY.length))
      : undefined;
    return address === undefined ? [] : [address];
  });
}

/** An address as a certificate can have it, written in one way; undefined: a name, or good on one link only (`%eth0`). */
export function plainAddress(host: string): string | undefined {
  const family = host.includes('%') ? 0 : isIP(host);
  if (family !== 6) return family === 4 ? host : undefined;
  return new URL(`http://[${host}]/`).hostname.slice(1, -1);
}
