/**
 * What the guard says to its process, and to whoever started it. Never waits: a reader that does not read must not stop
 * the guard, so what finds no room is kept up to a bound, and dropped after that.
 */
import { writeSync } from 'node:fs';
import { numberOf, type Arch } from '../arch.ts';
import { libc } from '../libc.ts';

const KEPT_BYTES_MAX = 1024 * 1024;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

export class Outbox {
  readonly #fd: number;
  #kept: Buffer[] = [];
  #bytes = 0;

  constructor(arch: Arch, fd: number) {
    this.#fd = fd;
    const fcntl = numberOf(arch, 'fcntl');
    const flags = libc().syscall(fcntl, fd, F_GETFL, 0);
    libc().syscall(fcntl, fd, F_SETFL, flags | O_NONBLOCK);
  }

  /** One line; false when it was dropped. */
  send(document: object): boolean {
    const line = Buffer.from(`${JSON.stringify(document)}\n`);
    if (this.#bytes + line.length > KEPT_BYTES_MAX) return false;
    this.#kept.push(line);
    this.#bytes += line.length;
    this.flush();
    return true;
  }

  /** To be called again and again, for what found no room. */
  flush(): void {
    for (let line = this.#kept[0]; line !== undefined; line = this.#kept[0]) {
      let written: number;
      try {
        written = writeSync(this.#fd, line);
      } catch (error) {
        // The reader is gone, or will read later.
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') this.#kept = [];
        break;
      }
      this.#bytes -= written;
      if (written < line.length) this.#kept[0] = line.subarray(written);
      else this.#kept.shift();
    }
    if (this.#kept.length === 0) this.#bytes = 0;
  }
}
