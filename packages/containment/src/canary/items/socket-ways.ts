/**
 * Ways to reach an address. Each is tried twice: through a socket of its own, and through a descriptor that is
 * already there, so that the report names the address even where no socket is ever made.
 */
import type { Address, Arg, Step, Way } from '../types.ts';
import { chain, way } from './build.ts';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_NETLINK = 16;
export const AF_INET6 = 10;
export const AF_PACKET = 17;
export const AF_VSOCK = 40;
export const STREAM = 1;
export const DATAGRAM = 2;
export const RAW = 3;
/** SOCK_NONBLOCK: a hole must not make the canary wait for a network. */
export const NONBLOCK = 0o4000;
export const INHERITED = 0;
export const SOL_SOCKET = 1;
export const SO_BROADCAST = 6;
export const PAYLOAD: Arg = { text: 'canary' };
export const PAYLOAD_BYTES = 6;

export const familyOf = (address: Address): number =>
  ({ inet: AF_INET, inet6: AF_INET6, unix: AF_UNIX, abstract: AF_UNIX, vsock: AF_VSOCK })[
    address.family
  ];

/** As the warden writes it. */
export function text(address: Address): string {
  switch (address.family) {
    case 'inet':
      return `${address.host}:${address.port}`;
    case 'inet6':
      return `[${address.host}]:${address.port}`;
    case 'unix':
      return address.path;
    case 'abstract':
      return `@${address.name}`;
    case 'vsock':
      return `vsock ${address.cid}:${address.port}`;
  }
}

export const socket = (family: number, type: number, protocol = 0): Step => ({
  call: 'socket',
  args: [family, type | NONBLOCK, protocol],
  keep: 'fd',
});

export function connects(address: Address): Way[] {
  const kind = familyOf(address) === AF_UNIX ? 'ipc' : 'network';
  const to: Arg = { sockaddr: address };
  return [
    chain(
      kind,
      'connect',
      [socket(familyOf(address), STREAM), { call: 'connect', args: ['$fd', to] }],
      text(address),
    ),
    way(kind, 'connect', [INHERITED, to], text(address)),
  ];
}

export function sends(address: Address, payload: Arg = PAYLOAD, bytes = PAYLOAD_BYTES): Way[] {
  const rest: Arg[] = [payload, bytes, 0, { sockaddr: address }];
  return [
    chain(
      'network',
      'sendto',
      [socket(familyOf(address), DATAGRAM), { call: 'sendto', args: ['$fd', ...rest] }],
      text(address),
    ),
    way('network', 'sendto', [INHERITED, ...rest], text(address)),
  ];
}
