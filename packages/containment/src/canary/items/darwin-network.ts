/**
 * Networks, names and sockets of macOS. Addresses belong to documentation or to the runner itself: a hole found here
 * harms nobody. A refused connection reports the port alone, and a name only the look-up service's socket: no more is
 * expected than Seatbelt says.
 */
import type { Address, Step, Way } from '../types.ts';
import { BOTH, chain, group, prepare, type Row, SEALED } from './build.ts';

const AF = { unix: 1, inet: 2, route: 17, inet6: 30, system: 32, vsock: 40 } as const;
const STREAM = 1;
const DATAGRAM = 2;
const RAW = 3;
const ICMP = 1;
const ICMPV6 = 58;
const F_SETFL = 4;
const O_NONBLOCK = 4;
const SOL_SOCKET = 0xffff;
const SO_BROADCAST = 0x20;
const PAYLOAD = { text: 'canary' } as const;
const PAYLOAD_BYTES = 6;
const V4 = '192.0.2.1';
const V6 = '2001:db8::1';
/** Seatbelt names both the way out and the refusal of the socket itself. */
const OUT = ['network-outbound', 'system-socket'];

const familyOf = (address: Address): number =>
  ({ inet: AF.inet, inet6: AF.inet6, unix: AF.unix, abstract: AF.unix, vsock: AF.vsock })[
    address.family
  ];

/** A socket that does not wait: a hole must not make the canary wait for a network. */
const socket = (family: number, type: number, protocol = 0): Step[] => [
  { call: 'socket', args: [family, type, protocol], keep: 'fd' },
  prepare('fcntl', ['$fd', F_SETFL, O_NONBLOCK]),
];
const port = (address: Address): string => ('port' in address ? `:${address.port}` : '');

const connect = (address: Address): Way =>
  chain(
    'network',
    OUT,
    [
      ...socket(familyOf(address), STREAM),
      { call: 'connect', args: ['$fd', { sockaddr: address }] },
    ],
    port(address),
  );
const send = (address: Address, kinds: 'network' | 'dns' = 'network'): Way =>
  chain(
    kinds === 'dns' ? ['network', 'dns'] : kinds,
    OUT,
    [
      ...socket(familyOf(address), DATAGRAM),
      { call: 'sendto', args: ['$fd', PAYLOAD, PAYLOAD_BYTES, 0, { sockaddr: address }] },
    ],
    port(address),
  );

const tcp = (id: string, title: string, address: Address): Row => ({
  id: `tcp-${id}`,
  title: `TCP to ${title}`,
  target: `${'host' in address ? address.host : ''}${port(address)}`,
  ways: [connect(address)],
});
const udp = (id: string, title: string, address: Address): Row => ({
  id: `udp-${id}`,
  title: `UDP to ${title}`,
  target: `${'host' in address ? address.host : ''}${port(address)}`,
  ways: [send(address)],
});

const network: Row[] = [
  tcp('v4', 'an IPv4 address', { family: 'inet', host: V4, port: 443 }),
  tcp('v6', 'an IPv6 address', { family: 'inet6', host: V6, port: 443 }),
  tcp('loopback', "this machine's own services", {
    family: 'inet',
    host: '127.0.0.1',
    port: '{tcp_port}',
  }),
  tcp('link-local', 'an IPv4 neighbour', { family: 'inet', host: '169.254.7.7', port: 80 }),
  tcp('link-local-v6', 'an IPv6 neighbour', {
    family: 'inet6',
    host: 'fe80::1',
    port: 80,
    scope: 1,
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
  {
    id: 'broadcast',
    title: 'broadcast to the local network',
    target: '255.255.255.255:9',
    ways: [
      chain(
        'network',
        OUT,
        [
          ...socket(AF.inet, DATAGRAM),
          prepare('setsockopt', ['$fd', SOL_SOCKET, SO_BROADCAST, { ints: [1] }, 4]),
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
        ':9',
      ),
    ],
  },
  {
    id: 'icmp',
    title: 'ping without rights, IPv4 and IPv6',
    target: V4,
    ways: [
      chain('network', OUT, [
        ...socket(AF.inet, DATAGRAM, ICMP),
        {
          call: 'sendto',
          args: [
            '$fd',
            { hex: '0800f7ff00000000' },
            8,
            0,
            { sockaddr: { family: 'inet', host: V4, port: 0 } },
          ],
        },
      ]),
      chain('network', OUT, [
        ...socket(AF.inet6, DATAGRAM, ICMPV6),
        {
          call: 'sendto',
          args: [
            '$fd',
            { hex: '8000000000000000' },
            8,
            0,
            { sockaddr: { family: 'inet6', host: V6, port: 0 } },
          ],
        },
      ]),
    ],
  },
  {
    id: 'system',
    title: 'sockets of the kernel (AF_SYSTEM, AF_ROUTE)',
    target: 'domains 32 and 17',
    ways: [
      chain('network', 'system-socket', [{ call: 'socket', args: [AF.system, DATAGRAM, 2] }]),
      chain('network', 'system-socket', [{ call: 'socket', args: [AF.route, RAW, 0] }]),
    ],
  },
  {
    id: 'listen',
    title: 'a service of its own',
    target: '0.0.0.0:18080',
    ways: [
      chain(
        'network',
        ['network-bind', 'network-inbound'],
        [
          ...socket(AF.inet, STREAM),
          {
            call: 'bind',
            args: ['$fd', { sockaddr: { family: 'inet', host: '0.0.0.0', port: 18_080 } }],
          },
        ],
        ':18080',
      ),
    ],
  },
];

/** Reported only where the kernel has it. */
const vsock: Row = {
  id: 'vsock',
  title: 'not the host of a virtual machine',
  target: 'vsock 2:9',
  ways: [
    chain(
      'network',
      [],
      [
        ...socket(AF.vsock, STREAM),
        {
          call: 'connect',
          args: ['$fd', { sockaddr: { family: 'vsock', cid: 2, port: 9 } }],
        },
      ],
    ),
  ],
  phases: SEALED,
  unreportable:
    'only virtual machines have it; elsewhere the kernel refuses before the sandbox is asked',
};

/** Refused to whoever is not root: Seatbelt may never be asked. */
const raw: Row = {
  id: 'raw',
  title: 'no raw socket',
  target: 'SOCK_RAW',
  ways: [chain([], [], [{ call: 'socket', args: [AF.inet, RAW, ICMP] }])],
  phases: SEALED,
  unreportable: 'an ordinary user is refused before the sandbox is asked',
};

const NAME = 'canary.minikeep.invalid';
const names: Row[] = [
  {
    id: 'getaddrinfo',
    title: 'a name looked up by the C library',
    target: NAME,
    ways: [chain(['dns', 'ipc'], [], [{ call: 'verb:resolve', args: [{ text: NAME }] }])],
  },
  {
    id: 'udp',
    title: 'a DNS question of its own',
    target: '192.0.2.53:53',
    ways: [send({ family: 'inet', host: '192.0.2.53', port: 53 }, 'dns')],
  },
  {
    id: 'mdns',
    title: 'a question to the neighbours (mDNS)',
    target: '224.0.0.251:5353',
    ways: [send({ family: 'inet', host: '224.0.0.251', port: 5353 }, 'dns')],
  },
];

const local = (id: string, title: string, path: string): Row => ({
  id,
  title,
  target: path,
  ways: [
    chain(['network', 'dns'], OUT, [
      ...socket(AF.unix, STREAM),
      { call: 'connect', args: ['$fd', { sockaddr: { family: 'unix', path } }] },
    ]),
  ],
});
const sockets: Row[] = [
  local('planted', 'a socket file that is open to all', '{socket}'),
  local('resolver', 'the look-up service', '/private/var/run/mDNSResponder'),
  local('syslog', 'the system log', '/private/var/run/syslog'),
  local('usb', 'phones on the cable (usbmuxd)', '/private/var/run/usbmuxd'),
];
/** Refused whether it is there or not, but only named when it is. */
const docker: Row = {
  ...local('docker', 'no container service', '/private/var/run/docker.sock'),
  phases: SEALED,
  unreportable: 'few machines have it; a path that is not there is refused without the sandbox',
};

export const DARWIN_NETWORK = [
  ...group('network', 'darwin', BOTH, [...network, vsock, raw]),
  ...group('names', 'darwin', BOTH, names),
  ...group('sockets', 'darwin', BOTH, [...sockets, docker]),
];
