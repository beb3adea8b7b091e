/**
 * Decoys, for the canary and for an engine that is about to be struck: so that the record says where an attempt was
 * going, the program gets an unconnected Unix socket instead of a network one, for a few calls and a short time. Nothing
 * can leave through it.
 */
import { type Decision, ERRNO, fails, returns } from '../warden/attempt.ts';
import { ADDRESS_BYTES_MAX, DNS_BYTES_MAX } from '../warden/limits.ts';
import type { Arch } from './arch.ts';
import { numberOf } from './arch.ts';
import { addressAt } from './describe.ts';
import { libc } from './libc.ts';
import type { ReadableMemory } from './memory.ts';
import { decodeDnsQuestion, socketName } from './sockaddr.ts';

export const DECOY_CALLS_MAX = 20;
export const DECOY_MS_MAX = 2_000;
const DECOYS_MAX = 256;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const DNS_PORTS = [53, 5353];
/** IPPROTO 0, TCP, UDP: an ICMP socket is refused at once. */
const PROTOCOLS = [0, 6, 17];

interface Decoy {
  readonly family: number;
  readonly type: number;
  readonly since_ms: number;
  calls: number;
}

const low = (value: bigint | undefined): number => Number((value ?? 0n) & 0xffff_ffffn);

/** The first `length` bytes of the first buffer of a struct msghdr. */
function messageParts(
  memory: ReadableMemory,
  address: bigint,
): { name: bigint; nameLength: bigint; data: Buffer; bytes: number } {
  const header = memory.read(address, 56);
  if (header.length < 56) return { name: 0n, nameLength: 0n, data: Buffer.alloc(0), bytes: 0 };
  const vector = memory.read(header.readBigUInt64LE(16), 16);
  const data =
    vector.length < 16
      ? Buffer.alloc(0)
      : memory.read(
          vector.readBigUInt64LE(0),
          Math.min(Number(vector.readBigUInt64LE(8)), DNS_BYTES_MAX),
        );
  const bytes = vector.length < 16 ? 0 : Number(vector.readBigUInt64LE(8));
  const nameLength = BigInt(header.readUInt32LE(8));
  return { name: header.readBigUInt64LE(0), nameLength, data, bytes };
}

/** What a send aims at: its address if it has one, and the DNS question if the bytes are one. */
export function describeSend(
  call: string,
  args: readonly bigint[],
  memory: ReadableMemory,
): {
  readonly question: string | undefined;
  readonly target: string;
  /** As the caller says it; of several buffers the first one's. */
  readonly bytes: number;
} {
  const message =
    call === 'sendto'
      ? {
          name: args[4] ?? 0n,
          nameLength: args[5] ?? 0n,
          data: memory.read(args[1] ?? 0n, Math.min(low(args[2]), DNS_BYTES_MAX)),
          bytes: Number(args[2] ?? 0n),
        }
      : messageParts(memory, args[1] ?? 0n);
  const address =
    message.name === 0n ? '' : addressAt(memory, message.name, message.nameLength).text;
  const question = decodeDnsQuestion(message.data);
  const target = address === '' ? `descriptor ${low(args[0]) | 0}` : address;
  return { question, target, bytes: Math.min(message.bytes, Number.MAX_SAFE_INTEGER) };
}

const isSend = (call: string): boolean =>
  call === 'sendto' || call === 'sendmsg' || call === 'sendmmsg';

/** Sends and addresses are named the same way with a decoy and without. */
export function refuseSocketCall(
  call: string,
  args: readonly bigint[],
  memory: ReadableMemory,
): Decision | undefined {
  if (call === 'socket') {
    const family = low(args[0]);
    const target = socketName(family, low(args[1]), low(args[2]));
    return fails(ERRNO.EAFNOSUPPORT, {
      kind: family === AF_UNIX ? 'ipc' : 'network',
      operation: call,
      target,
    });
  }
  if (isSend(call)) {
    const { question, target, bytes } = describeSend(call, args, memory);
    const sent = { operation: call, payload_bytes: bytes };
    return question === undefined
      ? fails(ERRNO.EPERM, { ...sent, kind: 'network', target })
      : fails(ERRNO.ECONNREFUSED, { ...sent, kind: 'dns', target: question });
  }
  if (call === 'connect' || call === 'bind') {
    const { text, family } = addressAt(memory, args[1], args[2]);
    const kind = family === AF_UNIX ? 'ipc' : 'network';
    return fails(ERRNO.EPERM, { kind, operation: call, target: text });
  }
  return undefined;
}

export class Decoys {
  readonly #arch: Arch;
  readonly #now: () => number;
  readonly #quiet: boolean;
  #byFd = new Map<number, Decoy>();
  #made = 0;

  /** `now` in milliseconds. `quiet`: only what is done with a decoy is an attempt, not asking for one. */
  constructor(arch: Arch, now: () => number, quiet: boolean) {
    this.#arch = arch;
    this.#now = now;
    this.#quiet = quiet;
  }

  /** Socket calls; undefined: refuse as in production. */
  decide(call: string, args: readonly bigint[], memory: ReadableMemory): Decision | undefined {
    if (call === 'socket') return this.#make(args);
    const decoy = this.#byFd.get(low(args[0]) | 0);
    if (decoy === undefined || !this.#lasts(decoy)) return undefined;
    if (call === 'setsockopt') return returns(0);
    if (call === 'connect' && decoy.type === SOCK_DGRAM && decoy.family !== AF_UNIX) {
      const length = low(args[2]) > ADDRESS_BYTES_MAX ? BigInt(ADDRESS_BYTES_MAX) : args[2];
      const { port, text } = addressAt(memory, args[1], length);
      // The question comes next, on this socket: say yes, so that it is asked.
      if (port !== undefined && DNS_PORTS.includes(port))
        return returns(0, { kind: 'dns', operation: call, target: text, played: true });
    }
    return undefined;
  }

  #lasts(decoy: Decoy): boolean {
    return ++decoy.calls <= DECOY_CALLS_MAX && this.#now() - decoy.since_ms <= DECOY_MS_MAX;
  }

  #make(args: readonly bigint[]): Decision | undefined {
    const family = low(args[0]);
    const type = low(args[1]) & 0xf;
    const known = [AF_UNIX, AF_INET, AF_INET6].includes(family);
    const plain = [SOCK_STREAM, SOCK_DGRAM].includes(type) && PROTOCOLS.includes(low(args[2]));
    if (!known || !plain || this.#made >= DECOYS_MAX) return undefined;
    const flags = low(args[1]) & ~0xf;
    const fd = libc().syscall(
      numberOf(this.#arch, 'socket'),
      AF_UNIX,
      type | flags | SOCK_CLOEXEC,
      0,
    );
    if (fd < 0) return undefined;
    this.#made++;
    const given = (engineFd: number): void => {
      this.#byFd.set(engineFd, { family, type, since_ms: this.#now(), calls: 0 });
    };
    const answer = {
      do: 'descriptor',
      fd,
      close_on_exec: (flags & SOCK_CLOEXEC) !== 0,
      given,
    } as const;
    if (this.#quiet) return { answer };
    const target = socketName(family, low(args[1]), low(args[2]));
    const kind = family === AF_UNIX ? 'ipc' : 'network';
    return { answer, attempt: { kind, operation: 'socket', target, played: true } };
  }
}
