/**
 * Names what a socket address, a socket call's arguments or a DNS question aim at. The bytes come from hostile
 * memory: nothing is read beyond what was really copied, and nothing here throws.
 */
import { escapeBytes } from '../warden/escape.ts';

const FAMILIES: Readonly<Record<number, string>> = {
  0: 'unspec',
  1: 'unix',
  2: 'inet',
  10: 'inet6',
  16: 'netlink',
  17: 'packet',
  38: 'alg',
  40: 'vsock',
  44: 'xdp',
};
const TYPES: Readonly<Record<number, string>> = {
  1: 'stream',
  2: 'datagram',
  3: 'raw',
  4: 'rdm',
  5: 'seqpacket',
  10: 'packet',
};
/** SOCK_NONBLOCK and SOCK_CLOEXEC ride in the type. */
const TYPE_MASK = 0xf;

export const familyName = (family: number): string => FAMILIES[family] ?? `family ${family}`;

/** `inet stream`, `inet datagram protocol 1`. */
export function socketName(family: number, type: number, protocol: number): string {
  const kind = TYPES[type & TYPE_MASK] ?? `type ${type & TYPE_MASK}`;
  return `${familyName(family)} ${kind}${protocol === 0 ? '' : ` protocol ${protocol}`}`;
}

export interface Address {
  readonly family: number;
  readonly port?: number;
  /** Escaped text: `inet 192.0.2.1:443`, `inet6 [2001:db8::1]:443`, `unix /run/x.sock`, `unix @abstract`. */
  readonly text: string;
}

/** RFC 5952: the longest run of zero groups becomes `::`. */
export function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0),
  );
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const hex = (part: readonly number[]): string => part.map((g) => g.toString(16)).join(':');
  if (best.at < 0) return hex(groups);
  return `${hex(groups.slice(0, best.at))}::${hex(groups.slice(best.at + best.length))}`;
}

export function decodeAddress(bytes: Uint8Array): Address {
  const b = Buffer.from(bytes);
  if (b.length < 2) return { family: -1, text: 'unreadable address' };
  const family = b.readUInt16LE(0);
  if (family === 2 && b.length >= 8) {
    const port = b.readUInt16BE(2);
    return { family, port, text: `inet ${b.subarray(4, 8).join('.')}:${port}` };
  }
  if (family === 10 && b.length >= 24) {
    const port = b.readUInt16BE(2);
    return { family, port, text: `inet6 [${formatIpv6(b.subarray(8, 24))}]:${port}` };
  }
  if (family === 1) {
    const path = b.subarray(2);
    if (path.length === 0) return { family, text: 'unix unnamed' };
    if (path[0] === 0) return { family, text: `unix @${escapeBytes(path.subarray(1))}` };
    const end = path.indexOf(0);
    return { family, text: `unix ${escapeBytes(end < 0 ? path : path.subarray(0, end))}` };
  }
  if (family === 40 && b.length >= 12)
    return { family, text: `vsock ${b.readUInt32LE(8)}:${b.readUInt32LE(4)}` };
  return { family, text: `${familyName(family)}${b.length < 8 ? ' (short)' : ''}` };
}

const DNS_HEADER_BYTES = 12;
const DNS_LABEL_MAX = 63;
const DNS_LABELS_MAX = 128;
const DNS_TYPES: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
  65: 'HTTPS',
};

/** The first question of a DNS message (RFC 1035), escaped: `A secret.example`; undefined when it is none. */
export function decodeDnsQuestion(bytes: Uint8Array): string | undefined {
  const b = Buffer.from(bytes);
  if (b.length < DNS_HEADER_BYTES + 5 || b.readUInt16BE(4) === 0) return undefined;
  if ((b.readUInt8(2) & 0x80) !== 0) return undefined; // an answer, not a question
  const labels: string[] = [];
  let at = DNS_HEADER_BYTES;
  for (;;) {
    const length = b[at];
    if (length === undefined || length > DNS_LABEL_MAX) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > b.length || labels.length >= DNS_LABELS_MAX) return undefined;
    labels.push(escapeBytes(b.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > b.length) return undefined;
  const type = b.readUInt16BE(at);
  return `${DNS_TYPES[type] ?? `type ${type}`} ${labels.join('.') || '.'}`;
}
