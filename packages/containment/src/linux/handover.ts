/**
 * Hands one descriptor from the launcher to the warden over a Unix socket (SCM_RIGHTS). pidfd_getfd would be
 * simpler, but a container's usual profile refuses it.
 */
import { numberOf, type Arch } from './arch.ts';
import { addressOf, libc } from './libc.ts';

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
/** struct msghdr, struct iovec, one control message with one descriptor, one byte of data. */
const MSGHDR_BYTES = 56;
const IOVEC_BYTES = 16;
const CMSG_BYTES = 24;
const CMSG_LENGTH = 20;

interface Message {
  readonly header: Buffer;
  readonly control: Buffer;
  /** Held so that what the header points to stays alive. */
  readonly parts: readonly Buffer[];
}

function message(): Message {
  const header = Buffer.alloc(MSGHDR_BYTES);
  const vector = Buffer.alloc(IOVEC_BYTES);
  const control = Buffer.alloc(CMSG_BYTES);
  const data = Buffer.alloc(1, 'L');
  vector.writeBigUInt64LE(addressOf(data), 0);
  vector.writeBigUInt64LE(1n, 8);
  header.writeBigUInt64LE(addressOf(vector), 16);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(addressOf(control), 32);
  header.writeBigUInt64LE(BigInt(CMSG_BYTES), 40);
  return { header, control, parts: [vector, data] };
}

/** For a thread without a filter: the one that asks for the filter can't say a word before its listener is heard. */
export function sendDescriptor(arch: Arch, socket: number, fd: number): boolean {
  const { header, control, parts } = message();
  control.writeBigUInt64LE(BigInt(CMSG_LENGTH), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  control.writeInt32LE(fd, 16);
  const sent = libc().syscall(numberOf(arch, 'sendmsg'), socket, addressOf(header), 0);
  return parts.length > 0 && sent === 1;
}

export type Received =
  | { readonly kind: 'descriptor'; readonly fd: number }
  | { readonly kind: 'again' }
  /** The other side closed or said something else. */
  | { readonly kind: 'ended' };

/** Takes the descriptor if it has come; never waits. */
export function receive(arch: Arch, socket: number): Received {
  const { header, control, parts } = message();
  const got = libc().syscall(
    numberOf(arch, 'recvmsg'),
    socket,
    addressOf(header),
    MSG_DONTWAIT | MSG_CMSG_CLOEXEC,
  );
  if (got < 0) return { kind: libc().errno() === 11 || libc().errno() === 4 ? 'again' : 'ended' };
  const whole =
    parts.length > 0 &&
    got === 1 &&
    control.readBigUInt64LE(0) === BigInt(CMSG_LENGTH) &&
    control.readInt32LE(8) === SOL_SOCKET &&
    control.readInt32LE(12) === SCM_RIGHTS;
  return whole ? { kind: 'descriptor', fd: control.readInt32LE(16) } : { kind: 'ended' };
}
