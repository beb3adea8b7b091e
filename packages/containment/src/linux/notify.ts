/**
 * The kernel's user notification protocol (linux/seccomp.h, seccomp_unotify(2)): which thread asks what, and the
 * answers. Every ioctl's result is checked; ENOENT means that the asking thread is gone, which is normal.
 */
import { libc } from './libc.ts';

const IOCTL = {
  receive: 0xc050_2100,
  send: 0xc018_2101,
  idValid: 0x4008_2102,
  addFd: 0x4018_2103,
  setFlags: 0x4008_2104,
} as const;
const REQUEST_BYTES = 80;
const RESPONSE_BYTES = 24;
const ADDFD_BYTES = 24;
const FLAG_CONTINUE = 1;
const O_CLOEXEC = 0o2000000;
/** Wakes the engine's thread on the warden's processor: the two take turns anyway (Linux 6.6). */
const FD_SYNC_WAKE_UP = 1;
const POLLIN = 1;
const POLLHUP = 0x10;
export const ENOENT = 2;
const EINTR = 4;

export interface Notification {
  readonly id: bigint;
  /** The asking thread, in the warden's view. */
  readonly tid: number;
  readonly nr: number;
  readonly args: readonly bigint[];
}

export class Listener {
  readonly fd: number;
  #request = Buffer.alloc(REQUEST_BYTES);
  #response = Buffer.alloc(RESPONSE_BYTES);
  #addFd = Buffer.alloc(ADDFD_BYTES);
  #pollFd = Buffer.alloc(8);

  constructor(fd: number) {
    this.fd = fd;
    this.#pollFd.writeInt32LE(fd, 0);
    this.#pollFd.writeInt16LE(POLLIN, 4);
    // An older kernel does not know it, and answers more slowly: nothing else changes.
    libc().ioctlValue(fd, IOCTL.setFlags, FD_SYNC_WAKE_UP);
  }

  /** Whether a notification waits, waits within the time, or none will ever come (the engine is gone). */
  wait(timeoutMs: number): 'ready' | 'nothing' | 'ended' {
    this.#pollFd.writeInt16LE(0, 6);
    if (libc().poll(this.#pollFd, 1, timeoutMs) <= 0) return 'nothing';
    const events = this.#pollFd.readInt16LE(6);
    if ((events & POLLIN) !== 0) return 'ready';
    // POLLERR is no end: the kernel also says it when a signal for us met a lock that the engine held.
    return (events & POLLHUP) !== 0 ? 'ended' : 'nothing';
  }

  /**
   * An ioctl that a signal interrupted before it did anything (the kernel waits for a lock that the engine's threads
   * take, too) is asked again: an answer that is lost leaves a thread waiting for ever.
   */
  #ioctl(request: number, data: Buffer): number {
    for (;;) {
      const result = libc().ioctl(this.fd, request, data);
      if (result >= 0 || libc().errno() !== EINTR) return result;
    }
  }

  /** Undefined when the thread that asked is gone by now. Call only after `wait` said ready. */
  receive(): Notification | undefined {
    const b = this.#request;
    b.fill(0);
    if (libc().ioctl(this.fd, IOCTL.receive, b) < 0) return undefined;
    return {
      id: b.readBigUInt64LE(0),
      tid: b.readUInt32LE(8),
      nr: b.readInt32LE(16),
      args: [32, 40, 48, 56, 64, 72].map((at) => b.readBigUInt64LE(at)),
    };
  }

  /** False when the asking thread was killed meanwhile: then its memory may belong to nobody. */
  valid(id: bigint): boolean {
    const b = Buffer.alloc(8);
    b.writeBigUInt64LE(id, 0);
    return this.#ioctl(IOCTL.idValid, b) === 0;
  }

  /** Errno of the answer itself; 0 when it arrived. */
  #send(id: bigint, value: bigint, error: number, flags: number): number {
    const b = this.#response;
    b.writeBigUInt64LE(id, 0);
    b.writeBigInt64LE(value, 8);
    b.writeInt32LE(error, 16);
    b.writeUInt32LE(flags, 20);
    return this.#ioctl(IOCTL.send, b) < 0 ? libc().errno() : 0;
  }

  answerValue(id: bigint, value: number): number {
    return this.#send(id, BigInt(value), 0, 0);
  }

  answerErrno(id: bigint, errno: number): number {
    return this.#send(id, 0n, -errno, 0);
  }

  /** Lets the kernel do the call. Only for decisions on registers: memory may change after the look. */
  answerContinue(id: bigint): number {
    return this.#send(id, 0n, 0, FLAG_CONTINUE);
  }

  /**
   * Puts a copy of `fd` into the engine, then answers with its number there. Two steps: when a signal for us meets
   * the one that the kernel has for both (SECCOMP_ADDFD_FLAG_SEND), the engine is told 0 and gets no descriptor, and
   * reads its orders as if they were the file.
   */
  answerDescriptor(
    id: bigint,
    fd: number,
    closeOnExec: boolean,
  ): { readonly fd: number } | { readonly errno: number } {
    const b = this.#addFd;
    b.writeBigUInt64LE(id, 0);
    b.writeUInt32LE(0, 8);
    b.writeUInt32LE(fd, 12);
    b.writeUInt32LE(0, 16);
    b.writeUInt32LE(closeOnExec ? O_CLOEXEC : 0, 20);
    const result = this.#ioctl(IOCTL.addFd, b);
    if (result < 0) return { errno: libc().errno() };
    const errno = this.answerValue(id, result);
    return errno === 0 ? { fd: result } : { errno };
  }
}
