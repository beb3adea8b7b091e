// WARDEN.md row 26: descriptors in messages (SCM_RIGHTS). An engine that could send one would hand its model to another
// process, one that could take one would have a way out. A receiver outside waits for it; outside it gets one.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { X64 } from '../src/linux/arch.ts';
import { addressOf, libc } from '../src/linux/libc.ts';
import {
  type Argument,
  Attacked,
  hostileFolder,
  testFolder,
  unixAddress,
} from './hostile/attacked.ts';

const AF_UNIX = 1;
const DGRAM = 2;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
let place: ReturnType<typeof hostileFolder>;
let folder: string;

beforeAll(() => {
  if (process.platform !== 'linux') return;
  place = hostileFolder();
  folder = testFolder('rights');
});
afterAll(() => {
  place?.cleanUp();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});
beforeEach((ctx) => onlyOn(ctx, 'linux'));

const nr = (name: string): number => X64.numbers[name] ?? -1;

/** A bound datagram socket of this process. */
function receiver(name: string): {
  readonly got: () => number | undefined;
  readonly close: () => void;
} {
  const c = libc();
  const fd = c.syscall(nr('socket'), AF_UNIX, DGRAM | 0o2000000, 0);
  const address = Buffer.from(unixAddress(name), 'hex');
  expect(c.syscall(nr('bind'), fd, addressOf(address), address.length)).toBe(0);
  return {
    /** The descriptor that came, 0 for a message without one, undefined when there is none. */
    got: () => {
      const [data, control, vector, header] = [1, 24, 16, 56].map((n) => Buffer.alloc(n)) as [
        Buffer,
        Buffer,
        Buffer,
        Buffer,
      ];
      vector.writeBigUInt64LE(addressOf(data), 0);
      vector.writeBigUInt64LE(1n, 8);
      header.writeBigUInt64LE(addressOf(vector), 16);
      header.writeBigUInt64LE(1n, 24);
      header.writeBigUInt64LE(addressOf(control), 32);
      header.writeBigUInt64LE(24n, 40);
      if (c.syscall(nr('recvmsg'), fd, addressOf(header), MSG_DONTWAIT) < 0) {
        expect(c.errno()).toBe(EAGAIN);
        return undefined;
      }
      return control.readInt32LE(12) === SCM_RIGHTS ? control.readInt32LE(16) : 0;
    },
    close: () => c.syscall(nr('close'), fd),
  };
}

/** The bytes of a control message with descriptor `fd`. */
function rights(fd: number): string {
  const b = Buffer.alloc(24);
  b.writeBigUInt64LE(20n, 0);
  b.writeInt32LE(SOL_SOCKET, 8);
  b.writeInt32LE(SCM_RIGHTS, 12);
  b.writeInt32LE(fd, 16);
  return b.toString('hex');
}

/** struct msghdr to `name` with descriptor `fd`, for attacker.mjs. */
function message(name: string, fd: number): Argument {
  const lengths = Buffer.alloc(56);
  lengths.writeUInt32LE(unixAddress(name).length / 2, 8);
  lengths.writeBigUInt64LE(1n, 24);
  lengths.writeBigUInt64LE(24n, 40);
  const vector: Argument = {
    hex: '00'.repeat(8) + '01'.padEnd(16, '0'),
    parts: [{ at: 0, of: { s: 'x' } }],
  };
  return {
    hex: lengths.toString('hex'),
    parts: [
      { at: 0, of: { hex: unixAddress(name) } },
      { at: 16, of: vector },
      { at: 32, of: { hex: rights(fd) } },
    ],
  };
}

describe('26: descriptors in messages', () => {
  const names = (): string[] => [path.join(folder, 'receiver'), '\0minikeep-rights-' + process.pid];

  it('the control: the same message, sent from here, brings a descriptor', () => {
    for (const name of names()) {
      const there = receiver(name);
      const c = libc();
      const buffers: Buffer[] = [];
      const build = (arg: Argument): bigint => {
        if (typeof arg !== 'object' || !('hex' in arg || 's' in arg))
          throw new Error('not used here');
        const b = 'hex' in arg ? Buffer.from(arg.hex, 'hex') : Buffer.from(`${arg.s}\0`);
        if ('hex' in arg)
          for (const { at, of } of arg.parts ?? []) b.writeBigUInt64LE(build(of), at);
        buffers.push(b);
        return addressOf(b);
      };
      const fd = c.syscall(nr('socket'), AF_UNIX, DGRAM | 0o2000000, 0);
      expect(c.syscall(nr('sendmsg'), fd, build(message(name, 1)), 0)).toBe(1);
      const came = there.got();
      expect(came).toBeGreaterThan(2);
      c.syscall(nr('close'), came ?? -1);
      c.syscall(nr('close'), fd);
      there.close();
      rmSync(path.join(folder, 'receiver'), { force: true });
    }
  });

  it.each(['stage', 'canary'] as const)(
    'none leaves a %s, by a socket or a pipe, and none comes in',
    async (purpose) => {
      const engine = await Attacked.start(place.folder, { purpose });
      const { result: model } = await engine.call('openat', -100, { s: engine.data }, 0);
      expect(model).toBeGreaterThan(2);
      for (const name of names()) {
        const there = receiver(name);
        // A canary gets a real Unix socket, unconnected.
        const { result: socket } = await engine.call('socket', AF_UNIX, DGRAM, 0);
        expect(socket > 2).toBe(purpose === 'canary');
        const address = unixAddress(name);
        const attempts: [string, ...Argument[]][] = [
          ['connect', socket, { hex: address }, address.length / 2],
          ['sendmsg', socket, message(name, model), 0],
          ['sendmsg', 1, message(name, model), 0],
          ['sendmmsg', socket, message(name, model), 1, 0],
          ['socketpair', AF_UNIX, DGRAM, 0, { zeros: 8 }],
          ['recvmsg', socket, { zeros: 56 }, MSG_DONTWAIT],
          ['recvmmsg', socket, { zeros: 64 }, 1, MSG_DONTWAIT, 0],
          ['pidfd_getfd', model, 0, 0],
        ];
        const seen = await engine.provoke(async () => {
          for (const [call, ...args] of attempts)
            expect([call, (await engine.call(call, ...args)).result]).toEqual([call, -1]);
        });
        expect(seen.map((v) => v.operation)).toEqual(attempts.map(([call]) => call));
        expect(there.got()).toBeUndefined();
        there.close();
        rmSync(path.join(folder, 'receiver'), { force: true });
      }
      await engine.end();
    },
  );
});
