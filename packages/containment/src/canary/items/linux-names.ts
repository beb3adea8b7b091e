/** Names looked up in every way, and services of this machine by their sockets. */
import type { Address, Arg } from '../types.ts';
import { BOTH, chain, group, type Row, SEALED, way } from './build.ts';
import {
  AF_UNIX,
  DATAGRAM,
  INHERITED,
  PAYLOAD,
  PAYLOAD_BYTES,
  STREAM,
  connects,
  familyOf,
  socket,
  text,
} from './socket-ways.ts';

const local = (id: string, title: string, address: Address): Row => ({
  id,
  title,
  target: text(address),
  ways: connects(address),
});

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

export const LINUX_NAMES = [
  ...group('names', 'linux', BOTH, names),
  ...group('sockets', 'linux', SEALED, sockets),
];
