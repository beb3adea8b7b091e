/**
 * What of a target may leave the agent's memory. A target is text that an attacker wrote, and a prompt may be in it:
 * in a name's first labels, in a path, in the numbers of a call. Kept is what says where to and can't say much: addresses
 * and ports, the last two labels of a name, the folder of the system that a path begins with. Everything else is told by
 * its length and by a digest under a key that only the cluster has: the same target is known again, and no other is told.
 * Pure.
 */
import { createHmac } from 'node:crypto';

export interface Redacted {
  /** Safe to keep and to show. */
  readonly target: string;
  /** Of the whole, in characters. */
  readonly length: number;
  /** Keyed, 16 hexadecimal digits. */
  readonly digest: string;
}

const DIGEST_CHARACTERS = 16;
const LABEL_LENGTH_MAX = 24;
const LABELS_KEPT = 2;
/** Folders that every machine of its kind has. */
const SYSTEM_FOLDERS: ReadonlySet<string> = new Set(
  'Applications Library System Users Volumes bin boot dev etc home lib lib64 mnt opt private proc root run sbin srv sys tmp usr var'.split(
    ' ',
  ),
);
/** Without room for words: addresses, kinds of sockets, small numbers. */
const PLAIN: readonly RegExp[] = [
  /^inet \d{1,3}(?:\.\d{1,3}){3}:\d{1,5}(?: datagram| by a socket that waits)?$/,
  /^inet6 \[[\da-f:.]{2,45}\]:\d{1,5}(?: datagram| by a socket that waits)?$/,
  /^(?:unspec|unix|inet6?|netlink|packet|alg|vsock|xdp|family \d{1,5}) (?:stream|datagram|raw|rdm|seqpacket|packet|type \d{1,5})(?: protocol \d{1,5})?$/,
  /^(?:descriptor|process|thread|number) -?\d{1,7}(?: signal -?\d{1,5})?$/,
  /^(?:unreadable (?:address|path)|a call of a foreign architecture)$/,
  // What Seatbelt says of a connection: a port, no address.
  /^(?:remote|local):\*:\d{1,5}$/,
  /^domain:\d{1,4} type:\d{1,4} protocol:\d{1,5}$/,
];
const QUESTION = /^((?:[A-Z\d]{1,10}|type \d{1,5})) (\S+)$/;
const LABEL = /^[a-z\d](?:[a-z\d-]*[a-z\d])?$/i;
const HEX = /^0x[\da-f]{1,16}(?: 0x[\da-f]{1,16})*$/;

export function redact(kind: string, target: string, key: Uint8Array): Redacted {
  const digest = createHmac('sha256', key).update(target).digest('hex');
  return {
    target: keptOf(kind, target),
    length: target.length,
    digest: target === '' ? '' : digest.slice(0, DIGEST_CHARACTERS),
  };
}

function keptOf(kind: string, target: string): string {
  if (target === '' || PLAIN.some((form) => form.test(target))) return target;
  const question = kind === 'dns' ? QUESTION.exec(target) : null;
  if (question !== null) return `${question[1]} ${nameOf(question[2] ?? '')}`;
  if (HEX.test(target)) return `${target.split(' ').length} numbers`;
  if (target.startsWith('unix ')) return `unix ${placeOf(target.slice(5))}`;
  return target
    .split(' -> ', 2)
    .map((path) => placeOf(path))
    .join(' -> ');
}

/** `…evil.example`; a long or strange label is left out, too. */
function nameOf(name: string): string {
  const labels = name.split('.').filter((label) => label !== '');
  const kept = labels
    .slice(-LABELS_KEPT)
    .map((label) => (label.length <= LABEL_LENGTH_MAX && LABEL.test(label) ? label : '…'));
  return labels.length > LABELS_KEPT ? `….${kept.join('.')}` : kept.join('.');
}

/** `/etc/…`, `/…`, `@…`, `…` */
function placeOf(path: string): string {
  if (path.startsWith('@')) return '@…';
  if (!path.startsWith('/')) return '…';
  const [, first = '', ...rest] = path.split('/');
  if (!SYSTEM_FOLDERS.has(first)) return '/…';
  return rest.length === 0 ? `/${first}` : `/${first}/…`;
}

/** The system call, or the system's own word; anything else is none of ours. */
export const plainOperation = (operation: string): string =>
  /^[\w*.-]{1,40}(?: call)?$/.test(operation) ? operation : 'other';
