/**
 * Calls that the guard makes in a process's place: on a copy of its descriptor, with bytes that were read once. What
 * another thread writes into the process's memory meanwhile changes nothing.
 */
import { closeSync } from 'node:fs';
import { ERRNO } from '../../warden/attempt.ts';
import { numberOf, type Arch } from '../arch.ts';
import { addressOf, libc } from '../libc.ts';

const F_GETFL = 3;
const O_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_DOMAIN = 39;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const ADDRESS_BYTES = 128;

/** What a call gave: its value, or -errno. */
export type Outcome = number;

export class Sockets {
  readonly #arch: Arch;

  constructor(arch: Arch) {
    this.#arch = arch;
  }

  #call(name: string, ...args: (number | bigint)[]): Outcome {
    const c = libc();
    const result = c.syscall(numberOf(this.#arch, name), ...args);
    return result < 0 ? -c.errno() : result;
  }

  /** A copy of the process's descriptor here, or -errno. */
  borrow(pid: number, fd: number): Outcome {
    const pidfd = this.#call('pidfd_open', pid, 0);
    if (pidfd < 0) return pidfd;
    const copy = this.#call('pidfd_getfd', pidfd, fd, 0);
    closeSync(pidfd);
    return copy;
  }

  close(fd: number): void {
    closeSync(fd);
  }

  /** Family and type of a socket; undefined: it is none. */
  kindOf(fd: number): { readonly family: number; readonly type: number } | undefined {
    const family = this.#option(fd, SO_DOMAIN);
    const type = this.#option(fd, SO_TYPE);
    return family === undefined || type === undefined ? undefined : { family, type };
  }

  #option(fd: number, name: number): number | undefined {
    const value = Buffer.alloc(4);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(4, 0);
    const result = this.#call(
      'getsockopt',
      fd,
      SOL_SOCKET,
      name,
      addressOf(value),
      addressOf(length),
    );
    return result < 0 ? undefined : value.readInt32LE(0);
  }

  /** Where a socket is bound. */
  boundTo(fd: number): Buffer {
    const address = Buffer.alloc(ADDRESS_BYTES);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(ADDRESS_BYTES, 0);
    const result = this.#call('getsockname', fd, addressOf(address), addressOf(length));
    return result < 0
      ? Buffer.alloc(0)
      : address.subarray(0, Math.min(ADDRESS_BYTES, length.readUInt32LE(0)));
  }

  /** A socket that waits would let the guard wait. */
  waits(fd: number): boolean {
    const flags = this.#call('fcntl', fd, F_GETFL, 0);
    return flags < 0 || (flags & O_NONBLOCK) === 0;
  }

  connect(fd: number, address: Buffer): Outcome {
    return this.#call('connect', fd, addressOf(address), address.length);
  }

  bind(fd: number, address: Buffer): Outcome {
    return this.#call('bind', fd, addressOf(address), address.length);
  }

  listen(fd: number, backlog: number): Outcome {
    return this.#call('listen', fd, backlog);
  }

  /** Never waits. `to` empty: where the socket is connected to. */
  send(fd: number, data: Buffer, to: Buffer): Outcome {
    // An empty buffer has no address of its own.
    const bytes = data.length === 0 ? Buffer.alloc(1) : data;
    const [where, length] = to.length === 0 ? [0, 0] : [addressOf(to), to.length];
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const sent = this.#call('sendto', fd, addressOf(bytes), data.length, flags, where, length);
    return sent === -ERRNO.EINTR ? -ERRNO.EAGAIN : sent;
  }
}
