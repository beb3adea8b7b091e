/**
 * Networks and names. Each address is tried twice: through a socket of its own, and through a descriptor that is
 * already there, so that the report names the address even where no socket is ever made. Addresses belong to
 * documentation (RFC 5737, RFC 3849) or to the runner itself: a hole found here harms nobody.
 */
import type { Address, Arg, Step, Way } from '../types.ts';
import { BOTH, chain, group, type Row, SEALED, way } from './build.ts';

const AF_UNIX = 1;
const AF_INET = 2;
const AF_NETLINK = 16;
const AF_INET6 = 10;
const AF_PACKET = 17;
const AF_VSOCK = 40;
const STREAM = 1;
const DATAGRAM = 2;
const RAW = 3;
/** SOCK_NONBLOCK: a hole must not make the canary wait for a network. */
const NONBLOCK = 0o4000;
const INHERITED = 0;
const SOL_SOCKET = 1;
const SO_BROADCAST = 6;
const PAYLOAD: Arg = { text: 'canary' };
const PAYLOAD_BYTES = 6;

const familyOf = (address: Address): number =>
  ({ inet: AF_INET, inet6: AF_INET6, unix: AF_UNIX, abstract: AF_UNIX, vsock: AF_VSOCK })[
    address.family
  ];

/** As the warden writes it. */
function text(address: Address): string {
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

const socket = (family: number, type: number, protocol = 0): Step => ({
  call: 'socket',
  args: [family, type | NONBLOCK, protocol],
  keep: 'fd',
});

function connects(address: Address): Way[] {
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

function sends(address: Address, payload: Arg = PAYLOAD, bytes = PAYLOAD_BYTES): Way[] {
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
const local = (id: string, title: string, address: Address): Row => ({
  id,
  title,
  target: text(address),
  ways: connects(address),
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

/** A DNS question (RFC 1035): class IN, recursion wanted. */
export function dnsQuestion(name: string, type: number): Buffer {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Buffer.from([0x4d, 0x4b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1]);
}

/** `.invalid` never resolves (RFC 2606): even a hole tells the world nothing. */
const NAME = 'canary.minikeep.invalid';

function asks(id: string, title: string, address: Address, type: number, typeName: string): Row {
  const name = `${id}.${NAME}`;
  const question = dnsQuestion(name, type);
  const rest: Arg[] = [
    { hex: question.toString('hex') },
    question.length,
    0,
    { sockaddr: address },
  ];
  const target = `${typeName} ${name}`;
  return {
    id,
    title,
    target: `${text(address)}, question ${target}`,
    ways: [
      chain(
        'dns',
        'sendto',
        [socket(familyOf(address), DATAGRAM), { call: 'sendto', args: ['$fd', ...rest] }],
        target,
      ),
      way('dns', 'sendto', [INHERITED, ...rest], target),
    ],
  };
}

const names: Row[] = [
  {
    id: 'getaddrinfo',
    title: 'a name looked up by the C library',
    target: `library.${NAME}`,
    ways: [
      chain(
        'dns',
        ['sendto', 'sendmsg', 'sendmmsg'],
        [{ call: 'verb:resolve', args: [{ text: `library.${NAME}` }] }],
        `library.${NAME}`,
      ),
    ],
  },
  asks(
    'udp',
    'a DNS question of its own',
    { family: 'inet', host: '192.0.2.53', port: 53 },
    16,
    'TXT',
  ),
  asks(
    'udp6',
    'a DNS question over IPv6',
    { family: 'inet6', host: '2001:db8::53', port: 53 },
    28,
    'AAAA',
  ),
  asks(
    'mdns',
    'a question to all neighbours (mDNS)',
    { family: 'inet', host: '224.0.0.251', port: 5353 },
    12,
    'PTR',
  ),
  {
    id: 'tcp',
    title: 'DNS over TCP',
    target: '192.0.2.53:53',
    ways: connects({ family: 'inet', host: '192.0.2.53', port: 53 }),
  },
];

const sockets: Row[] = [
  local('path', 'a service of this machine by its socket file', {
    family: 'unix',
    path: '{socket}',
  }),
  local('abstract', 'a service of this machine by an abstract name', {
    family: 'abstract',
    name: '{abstract}',
  }),
  local('docker', 'the container service', { family: 'unix', path: '/run/docker.sock' }),
  local('syslog', 'the system log', { family: 'unix', path: '/dev/log' }),
  local('journal', "the journal's socket", { family: 'unix', path: '/run/systemd/journal/socket' }),
  local('dbus', 'the message bus', { family: 'unix', path: '/run/dbus/system_bus_socket' }),
  local('usbmuxd', 'phones on USB', { family: 'unix', path: '/var/run/usbmuxd' }),
  local('resolver', "systemd's resolver", {
    family: 'unix',
    path: '/run/systemd/resolve/io.systemd.Resolve',
  }),
  {
    id: 'pair',
    title: 'a pair of sockets',
    target: 'socketpair',
    ways: [way('ipc', 'socketpair', [AF_UNIX, STREAM, 0, { bytes: 8 }])],
  },
  {
    id: 'pass-descriptor',
    title: 'handing a descriptor to another process (SCM_RIGHTS)',
    target: 'standard output',
    ways: [
      way('network', 'sendmsg', [
        1,
        // msghdr with one control message: length 20, SOL_SOCKET, SCM_RIGHTS, descriptor 0.
        {
          words: [
            0,
            0,
            { words: [PAYLOAD, PAYLOAD_BYTES] },
            1,
            { words: [20, 0x1_0000_0001, 0] },
            24,
            0,
          ],
        },
        0,
      ]),
      way('network', 'recvmsg', [
        INHERITED,
        { words: [0, 0, { words: [{ bytes: 16 }, 16] }, 1, 0, 0, 0] },
        0,
      ]),
    ],
  },
];

export const LINUX_NETWORK = [
  ...group('network', 'linux', BOTH, network),
  ...group('names', 'linux', BOTH, names),
  ...group('sockets', 'linux', SEALED, sockets),
];
