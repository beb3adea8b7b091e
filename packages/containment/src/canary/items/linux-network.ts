/**
 * Networks. Addresses belong to documentation (RFC 5737, RFC 3849) or to the runner itself: a hole found here harms
 * nobody.
 */
import type { Address, Arg } from '../types.ts';
import { BOTH, chain, group, type Row, way } from './build.ts';
import { LINUX_NAMES } from './linux-names.ts';
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AF_PACKET,
  AF_VSOCK,
  DATAGRAM,
  INHERITED,
  PAYLOAD,
  PAYLOAD_BYTES,
  RAW,
  SOL_SOCKET,
  SO_BROADCAST,
  STREAM,
  connects,
  sends,
  socket,
  text,
} from './socket-ways.ts';

const tcp = (id: string, title: string, address: Address): Row => ({
  id: `tcp-${id}`,
  title: `TCP to ${title}`,
  target: text(address),
  ways: connects(address),
});
const udp = (id: string, title: string, address: Address): Row => ({
  id: `udp-${id}`,
  title: `UDP to ${title}`,
  target: text(address),
  ways: sends(address),
});

const V4 = '192.0.2.1';
const V6 = '2001:db8::1';

const network: Row[] = [
  tcp('v4', 'an IPv4 address', { family: 'inet', host: V4, port: 443 }),
  tcp('v6', 'an IPv6 address', { family: 'inet6', host: V6, port: 443 }),
  tcp('loopback', "this machine's own services", {
    family: 'inet',
    host: '127.0.0.1',
    port: '{tcp_port}',
  }),
  tcp('loopback-v6', "this machine's own services over IPv6", {
    family: 'inet6',
    host: '::1',
    port: '{tcp_port}',
  }),
  tcp('link-local', 'an IPv4 neighbour', { family: 'inet', host: '169.254.7.7', port: 80 }),
  tcp('link-local-v6', 'an IPv6 neighbour', {
    family: 'inet6',
    host: 'fe80::1',
    port: 80,
    scope: 2,
  }),
  tcp('metadata', "a cloud's metadata service", {
    family: 'inet',
    host: '169.254.169.254',
    port: 80,
  }),
  udp('v4', 'an IPv4 address', { family: 'inet', host: V4, port: 9 }),
  udp('v6', 'an IPv6 address', { family: 'inet6', host: V6, port: 9 }),
  udp('loopback', "this machine's own services", {
    family: 'inet',
    host: '127.0.0.1',
    port: '{udp_port}',
  }),
  udp('link-local-v6', 'an IPv6 neighbour', {
    family: 'inet6',
    host: 'fe80::1',
    port: 9,
    scope: 2,
  }),
  {
    id: 'broadcast',
    title: 'broadcast to the local network',
    target: '255.255.255.255:9',
    ways: [
      chain(
        'network',
        'sendto',
        [
          socket(AF_INET, DATAGRAM),
          { call: 'setsockopt', args: ['$fd', SOL_SOCKET, SO_BROADCAST, { ints: [1] }, 4] },
          {
            call: 'sendto',
            args: [
              '$fd',
              PAYLOAD,
              PAYLOAD_BYTES,
              0,
              { sockaddr: { family: 'inet', host: '255.255.255.255', port: 9 } },
            ],
          },
        ],
        '255.255.255.255:9',
      ),
    ],
  },
  {
    id: 'sendmsg',
    title: 'a datagram by sendmsg and sendmmsg',
    target: `${V4}:9`,
    ways: ['sendmsg', 'sendmmsg'].map((call) => {
      const header: Arg[] = [
        { sockaddr: { family: 'inet', host: V4, port: 9 } },
        { words: [PAYLOAD, PAYLOAD_BYTES] },
        1,
        0,
        0,
        0,
      ];
      const args: Arg[] =
        call === 'sendmsg' ? [{ words: header }, 0] : [{ words: [...header, 0] }, 1, 0];
      return way('network', call, [INHERITED, ...args], call === 'sendmsg' ? `${V4}:9` : undefined);
    }),
  },
  {
    id: 'icmp',
    title: 'ICMP datagrams',
    target: 'inet and inet6',
    ways: [
      way('network', 'socket', [AF_INET, DATAGRAM, 1], 'inet datagram'),
      way('network', 'socket', [AF_INET6, DATAGRAM, 58], 'inet6 datagram'),
    ],
  },
  {
    id: 'raw',
    title: 'raw IP packets',
    target: 'inet and inet6',
    ways: [
      way('network', 'socket', [AF_INET, RAW, 255], 'inet raw'),
      way('network', 'socket', [AF_INET6, RAW, 255], 'inet6 raw'),
    ],
  },
  {
    id: 'packet',
    title: 'raw frames on the wire (AF_PACKET)',
    target: 'every interface',
    ways: [
      way('network', 'socket', [AF_PACKET, RAW, 0x0300], 'packet raw'),
      way('network', 'socket', [AF_PACKET, DATAGRAM, 0x0300], 'packet datagram'),
    ],
  },
  {
    id: 'netlink',
    title: "the kernel's network tables (netlink)",
    target: 'routes and the audit log',
    ways: [
      way('network', 'socket', [AF_NETLINK, RAW, 0], 'netlink'),
      way('network', 'socket', [AF_NETLINK, RAW, 9], 'netlink'),
    ],
  },
  {
    id: 'vsock',
    title: 'the host of a virtual machine (AF_VSOCK)',
    target: 'vsock 2:1024',
    ways: [
      way('network', 'socket', [AF_VSOCK, STREAM, 0], 'vsock'),
      way(
        'network',
        'connect',
        [INHERITED, { sockaddr: { family: 'vsock', cid: 2, port: 1024 } }],
        'vsock 2:1024',
      ),
    ],
  },
  {
    id: 'other-families',
    title: 'Bluetooth, CAN, XDP, kernel crypto and other socket families',
    target: 'families 21, 29, 30, 31, 38, 39, 43, 44, 45',
    ways: [
      [21, 5],
      [29, RAW],
      [30, DATAGRAM],
      [31, RAW],
      [38, 5],
      [39, RAW],
      [43, STREAM],
      [44, RAW],
      [45, DATAGRAM],
    ].map(([family = 0, type = 0]) => way('network', 'socket', [family, type, 0])),
  },
  {
    id: 'listen',
    title: 'waiting for callers: bind, listen, accept',
    target: '0.0.0.0:7',
    ways: [
      chain(
        'network',
        'bind',
        [
          socket(AF_INET, STREAM),
          {
            call: 'bind',
            args: ['$fd', { sockaddr: { family: 'inet', host: '0.0.0.0', port: 7 } }],
          },
        ],
        '0.0.0.0:7',
      ),
      way(
        'network',
        'bind',
        [INHERITED, { sockaddr: { family: 'inet6', host: '::', port: 7 } }],
        '[::]:7',
      ),
      chain('network', 'listen', [socket(AF_INET, STREAM), { call: 'listen', args: ['$fd', 1] }]),
      way('network', 'accept4', [INHERITED, 0, 0, 0]),
    ],
  },
  {
    id: 'interfaces',
    title: 'interface addresses through ioctl',
    target: 'SIOCGIFCONF, SIOCGIFHWADDR',
    ways: [0x8912, 0x8927].map((request) =>
      way('other', 'ioctl', [INHERITED, request, { bytes: 64 }], `0x${request.toString(16)}`),
    ),
  },
];

export const LINUX_NETWORK = [...group('network', 'linux', BOTH, network), ...LINUX_NAMES];
