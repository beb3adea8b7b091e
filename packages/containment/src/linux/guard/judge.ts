/**
 * Decides what a guarded process asks. Whatever is decided by an address is done here, with the bytes that were looked
 * at; nothing that a pointer points to is ever let go on.
 */
import type { ConnectList } from '../../guard/connect-list.ts';
import { plainHost } from '../../guard/connect-list.ts';
import { SEND_BYTES_MAX, SEND_PARTS_MAX } from '../../guard/limits.ts';
import {
  type Attempt,
  CONTINUE,
  type Decision,
  ERRNO,
  fails,
  returns,
} from '../../warden/attempt.ts';
import { ADDRESS_BYTES_MAX } from '../../warden/limits.ts';
import { type Arch, syscallNames } from '../arch.ts';
import { describeSend, refuseSocketCall } from '../decoy.ts';
import { describe } from '../describe.ts';
import type { ReadableMemory } from '../memory.ts';
import { decodeAddress, formatIpv6 } from '../sockaddr.ts';
import { knownSocket } from './known.ts';
import { AF, PR_SET_PDEATHSIG, SOCK } from './rules.ts';
import type { Sockets } from './sockets.ts';

const SIGKILL = 9;
const MDNS_PORT = 5353;
const MDNS_GROUPS: ReadonlySet<string> = new Set(['224.0.0.251', 'ff02::fb']);
const DNS_PORTS: ReadonlySet<number> = new Set([53, 853, MDNS_PORT]);
const MSGHDR_BYTES = 56;
const MMSGHDR_LENGTH_AT = 56;
const IOVEC_BYTES = 16;

const low = (value: bigint | undefined): number => Number((value ?? 0n) & 0xffff_ffffn);
const signed = (value: bigint | undefined): number => low(value) | 0;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface GuardJudgeOptions {
  readonly arch: Arch;
  readonly list: ConnectList;
  /** Where it may listen; port 0: any port of that host. */
  readonly listen: readonly Endpoint[];
  readonly discovery: boolean;
  readonly sockets: Sockets;
  readonly monitors: ReadonlySet<number>;
}

export interface Question {
  readonly nr: number;
  readonly args: readonly bigint[];
  /** The process that asks. */
  readonly pid: number;
  readonly memory: ReadableMemory;
  /** Whether the thread still waits: before that is known, nothing of it may be believed. */
  readonly waits: () => boolean;
}

/** Host and port of an address of the internet; undefined: another family, or too short. */
export function endpointOf(bytes: Buffer): Endpoint | undefined {
  if (bytes.length < 2) return undefined;
  const family = bytes.readUInt16LE(0);
  if (family === AF.inet && bytes.length >= 8)
    return { host: bytes.subarray(4, 8).join('.'), port: bytes.readUInt16BE(2) };
  if (family !== AF.inet6 || bytes.length < 24) return undefined;
  const host = plainHost(formatIpv6(bytes.subarray(8, 24)));
  return host === undefined ? undefined : { host, port: bytes.readUInt16BE(2) };
}

/** The name of a socket file; empty: none, or an abstract one. */
function unixPath(address: Buffer): string {
  const name = address.subarray(2);
  const end = name.indexOf(0);
  return name.toString('latin1', 0, end < 0 ? name.length : end);
}

const isLoopback = (host: string): boolean => host === '::1' || host.startsWith('127.');
const isAny = (host: string): boolean => host === '0.0.0.0' || host === '::';

export class GuardJudge {
  readonly #o: GuardJudgeOptions;
  readonly #names: ReadonlyMap<number, string>;

  constructor(options: GuardJudgeOptions) {
    this.#o = options;
    this.#names = syscallNames(options.arch);
  }

  decide(question: Question): Decision {
    const call = this.#names.get(question.nr) ?? `call ${question.nr}`;
    switch (call) {
      case 'connect':
        return this.#connect(question);
      case 'bind':
        return this.#bind(question);
      case 'listen':
        return this.#listen(question);
      case 'sendto':
      case 'sendmsg':
      case 'sendmmsg':
        return this.#send(call, question);
      case 'prctl':
        // By registers alone: the signal that ends the process with its guard may be set, and not taken back.
        if (low(question.args[0]) === PR_SET_PDEATHSIG && low(question.args[1]) === SIGKILL)
          return CONTINUE;
    }
    const { args, memory } = question;
    if (call === 'socket') {
      const refused = refuseSocketCall(call, args, memory);
      if (refused !== undefined) return refused;
    }
    const attempt = { operation: call, ...describe(call, args, memory, this.#o.monitors) };
    const errno = call.startsWith('io_uring') ? ERRNO.ENOSYS : ERRNO.EPERM;
    return fails(errno, attempt);
  }

  #connect(question: Question): Decision {
    const { args } = question;
    const address = this.#address(question, 1, 2);
    const { family, text } = decodeAddress(address);
    const target = endpointOf(address);
    const known = family === AF.unix ? knownSocket(unixPath(address)) : undefined;
    if (known !== undefined) return fails(known.errno);
    const kernel = family === AF.unspec || (family === AF.netlink && toKernel(address));
    // The C library sorts the addresses of `localhost` so. Nothing is sent by it, and nothing leaves the machine.
    const sorting = target !== undefined && target.port === 0 && isLoopback(target.host);
    const listed = target !== undefined && this.#o.list.allows(target.host, target.port);
    if (!kernel && !sorting && !listed) return refuse('connect', family, target, text);
    return this.#on(question, signed(args[0]), (fd) => {
      // Peers speak TCP.
      if (!kernel && !sorting && this.#o.sockets.kindOf(fd)?.type !== SOCK.stream)
        return refuse('connect', family, target, `${text} datagram`);
      if (listed && this.#o.sockets.waits(fd))
        return refuse('connect', family, target, `${text} by a socket that waits`);
      return outcome(this.#o.sockets.connect(fd, address));
    });
  }

  #bind(question: Question): Decision {
    const address = this.#address(question, 1, 2);
    const { family, text } = decodeAddress(address);
    const at = endpointOf(address);
    return this.#on(question, signed(question.args[0]), (fd) => {
      const kind = this.#o.sockets.kindOf(fd);
      const fine =
        family === AF.netlink || family === AF.unix
          ? kind?.family === family
          : at !== undefined &&
            (at.port === 0 ||
              (kind?.type === SOCK.stream
                ? this.#mayListen(at)
                : this.#o.discovery && at.port === MDNS_PORT));
      return fine ? outcome(this.#o.sockets.bind(fd, address)) : refuse('bind', family, at, text);
    });
  }

  #listen(question: Question): Decision {
    const { args } = question;
    return this.#on(question, signed(args[0]), (fd) => {
      const address = this.#o.sockets.boundTo(fd);
      const { family, text } = decodeAddress(address);
      const at = endpointOf(address);
      return family === AF.unix || (at !== undefined && at.port !== 0 && this.#mayListen(at))
        ? outcome(this.#o.sockets.listen(fd, signed(args[1])))
        : refuse('listen', family, at, text);
    });
  }

  /** Who calls on loopback, or a socket file, is on this machine: files would tell them as much. */
  #mayListen({ host, port }: Endpoint): boolean {
    return (
      isLoopback(host) ||
      this.#o.listen.some(
        (one) => (one.port === 0 || one.port === port) && (isAny(one.host) || one.host === host),
      )
    );
  }

  #send(call: 'sendto' | 'sendmsg' | 'sendmmsg', question: Question): Decision {
    const { args, memory } = question;
    const message = call === 'sendto' ? sendtoParts(question) : messageParts(question);
    if (message === undefined) return fails(ERRNO.EFAULT);
    if (call === 'sendmmsg' && low(args[2]) === 0) return returns(0);
    const { to, data, control } = message;
    const { family } = decodeAddress(to);
    const target = endpointOf(to);
    const toGroup = this.#o.discovery && target?.port === MDNS_PORT && MDNS_GROUPS.has(target.host);
    const fine = to.length === 0 || toGroup || (family === AF.netlink && toKernel(to));
    if (!fine || control) {
      const { question: asked, target: where } = describeSend(call, args, memory);
      if (asked !== undefined)
        return fails(ERRNO.EPERM, { kind: 'dns', operation: call, target: asked });
      return refuse(call, control ? AF.unix : family, target, where);
    }
    return this.#on(question, signed(args[0]), (fd) => {
      const kind = this.#o.sockets.kindOf(fd);
      // An address of one family on a socket of another is read in that one's way, by some.
      const fits = to.length === 0 || kind?.family === family;
      const datagram = kind?.type === SOCK.datagram || kind?.family === AF.netlink;
      if (!fits || (toGroup && !datagram))
        return refuse(call, family, target, decodeAddress(to).text);
      if (message.cut && datagram) return fails(ERRNO.EMSGSIZE);
      const sent = this.#o.sockets.send(fd, data, to);
      if (call !== 'sendmmsg' || sent < 0) return outcome(sent);
      // One at a time: whoever has more to send asks again.
      const length = Buffer.alloc(4);
      length.writeUInt32LE(sent, 0);
      memory.write((args[1] ?? 0n) + BigInt(MMSGHDR_LENGTH_AT), length);
      return returns(1);
    });
  }

  #address({ args, memory }: Question, pointer: number, length: number): Buffer {
    return memory.read(args[pointer] ?? 0n, Math.min(low(args[length]), ADDRESS_BYTES_MAX));
  }

  /** With a copy of the process's descriptor, which is closed afterwards. */
  #on(question: Question, fd: number, act: (copy: number) => Decision): Decision {
    const copy = this.#o.sockets.borrow(question.pid, fd);
    if (copy < 0) return fails(-copy);
    try {
      // Gone meanwhile: the descriptor may be another process's.
      return question.waits() ? act(copy) : fails(ERRNO.ESRCH);
    } finally {
      this.#o.sockets.close(copy);
    }
  }
}

/** struct sockaddr_nl: no process, no group. */
const toKernel = (address: Buffer): boolean =>
  address.length >= 12 && address.readUInt32LE(4) === 0 && address.readUInt32LE(8) === 0;

const outcome = (value: number): Decision => (value < 0 ? fails(-value) : returns(value));

function refuse(
  operation: string,
  family: number,
  target: Endpoint | undefined,
  text: string,
): Decision {
  const dns = operation !== 'bind' && operation !== 'listen' && DNS_PORTS.has(target?.port ?? 0);
  const kind: Attempt['kind'] = family === AF.unix ? 'ipc' : dns ? 'dns' : 'network';
  return fails(ERRNO.EPERM, { kind, operation, target: text });
}

interface Message {
  /** Empty: none. */
  readonly to: Buffer;
  readonly data: Buffer;
  /** There is more than that. */
  readonly cut: boolean;
  /** Descriptors, or other things that ride along. */
  readonly control: boolean;
}

function sendtoParts({ args, memory }: Question): Message | undefined {
  const length = Number(args[2] ?? 0n);
  const data = memory.read(args[1] ?? 0n, Math.min(length, SEND_BYTES_MAX));
  const to = memory.read(args[4] ?? 0n, Math.min(low(args[5]), ADDRESS_BYTES_MAX));
  if (data.length < Math.min(length, SEND_BYTES_MAX) || to.length === 0) return undefined;
  return { to, data, cut: length > SEND_BYTES_MAX, control: false };
}

/** The first message that struct msghdr describes; undefined: unreadable. */
function messageParts({ args, memory }: Question): Message | undefined {
  const header = memory.read(args[1] ?? 0n, MSGHDR_BYTES);
  if (header.length < MSGHDR_BYTES) return undefined;
  const name = header.readBigUInt64LE(0);
  const nameLength = Math.min(header.readUInt32LE(8), ADDRESS_BYTES_MAX);
  const to = name === 0n ? Buffer.alloc(0) : memory.read(name, nameLength);
  if (name !== 0n && to.length === 0) return undefined;
  const vectors = header.readBigUInt64LE(16);
  const count = header.readBigUInt64LE(24);
  const parts: Buffer[] = [];
  let total = 0;
  let cut = count > BigInt(SEND_PARTS_MAX);
  for (let i = 0; i < Math.min(Number(count), SEND_PARTS_MAX); i++) {
    const vector = memory.read(vectors + BigInt(i * IOVEC_BYTES), IOVEC_BYTES);
    if (vector.length < IOVEC_BYTES) return undefined;
    const wanted = Number(vector.readBigUInt64LE(8));
    const room = Math.min(wanted, SEND_BYTES_MAX - total);
    const part = memory.read(vector.readBigUInt64LE(0), room);
    if (part.length < room) return undefined;
    parts.push(part);
    total += part.length;
    if (room < wanted) {
      cut = true;
      break;
    }
  }
  const control = header.readBigUInt64LE(40) > 0n;
  return { to, data: Buffer.concat(parts), cut, control };
}
