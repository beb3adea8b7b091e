/**
 * A file server for the tests: a real FUSE file system whose server writes down every name that it is asked for. It
 * is a process of its own, because a look at its files would wait for itself otherwise. Needs root and /dev/fuse.
 *
 * Argument: the folder to mount on. Prints one JSON line when it serves ({"mounted": true}) or why it can't
 * ({"error": "…"}), then one for each name. Ends, and takes the mount away, when its standard input does.
 *
 * Protocol: linux/fuse.h, version 7.31; only what looking up, asking for attributes and reading needs.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { hostArch, numberOf } from '../../src/linux/arch.ts';
import { addressOf, libc } from '../../src/linux/libc.ts';

const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  flush: 25,
  init: 26,
  access: 34,
  interrupt: 36,
  batchForget: 42,
} as const;
const NO_ANSWER: readonly number[] = [OP.forget, OP.batchForget, OP.interrupt];
const EMPTY_ANSWER: readonly number[] = [OP.release, OP.flush, OP.access];
const ENOENT = 2;
const ENOSYS = 38;
const FILE_NODE = 2n;
const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const REQUEST_BYTES_MAX = 1 << 18;
const MS_NOSUID_NODEV = 2 | 4;
const MNT_DETACH = 2;
/** The one file that exists. */
const FILE = 'model.gguf';
const CONTENT = Buffer.alloc(8192, 'GGUF');

const print = (value: object): void => {
  writeSync(1, `${JSON.stringify(value)}\n`);
};

/** struct fuse_attr. */
function attributes(node: bigint): Buffer {
  const b = Buffer.alloc(88);
  b.writeBigUInt64LE(node, 0);
  b.writeBigUInt64LE(BigInt(node === FILE_NODE ? CONTENT.length : 0), 8);
  b.writeUInt32LE(node === FILE_NODE ? 0o100444 : 0o40555, 60);
  b.writeUInt32LE(1, 64);
  b.writeUInt32LE(4096, 80);
  return b;
}

/** The body of the answer, or an errno. */
function respond(op: number, node: bigint, body: Buffer): Buffer | number {
  if (EMPTY_ANSWER.includes(op)) return Buffer.alloc(0);
  switch (op) {
    case OP.init: {
      const b = Buffer.alloc(64);
      [7, 31, 0, 0, 0, 4096, 1].forEach((value, i) => b.writeUInt32LE(value, 4 * i));
      return b;
    }
    case OP.lookup: {
      const name = body.subarray(0, Math.max(0, body.indexOf(0))).toString('latin1');
      print({ name });
      if (name !== FILE) return ENOENT;
      const b = Buffer.alloc(40);
      b.writeBigUInt64LE(FILE_NODE, 0);
      return Buffer.concat([b, attributes(FILE_NODE)]);
    }
    case OP.getattr:
      return Buffer.concat([Buffer.alloc(16), attributes(node)]);
    case OP.statfs: {
      const b = Buffer.alloc(80);
      b.writeUInt32LE(4096, 40);
      b.writeUInt32LE(255, 44);
      return b;
    }
    case OP.open:
      return Buffer.alloc(16);
    case OP.read: {
      const offset = Number(body.readBigUInt64LE(8));
      return CONTENT.subarray(offset, offset + body.readUInt32LE(16));
    }
    default:
      return ENOSYS;
  }
}

/** Until the mount is gone. */
function answerAll(fd: number): void {
  const request = Buffer.alloc(REQUEST_BYTES_MAX);
  for (;;) {
    try {
      readSync(fd, request, 0, request.length, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENODEV') return;
      continue; // interrupted, or the asking process is gone
    }
    const op = request.readUInt32LE(4);
    if (NO_ANSWER.includes(op)) continue;
    const body = request.subarray(IN_HEADER_BYTES, request.readUInt32LE(0));
    const answer = respond(op, request.readBigUInt64LE(16), body);
    const bytes = typeof answer === 'number' ? Buffer.alloc(0) : answer;
    const out = Buffer.alloc(OUT_HEADER_BYTES);
    out.writeUInt32LE(OUT_HEADER_BYTES + bytes.length, 0);
    out.writeInt32LE(typeof answer === 'number' ? -answer : 0, 4);
    request.copy(out, 8, 8, 16); // which request
    try {
      writeSync(fd, Buffer.concat([out, bytes]));
    } catch {
      continue; // who asked no longer waits
    }
  }
}

function mount(folder: string): void {
  const arch = hostArch();
  const c = libc();
  const text = (s: string): Buffer => Buffer.from(`${s}\0`);
  let fd: number;
  try {
    fd = openSync('/dev/fuse', 'r+');
  } catch (error) {
    print({ error: (error as Error).message });
    return;
  }
  const [source, target, type, options] = [
    text('minikeep-test'),
    text(folder),
    text('fuse'),
    text(`fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other`),
  ] as const;
  const result = c.syscall(
    numberOf(arch, 'mount'),
    addressOf(source),
    addressOf(target),
    addressOf(type),
    MS_NOSUID_NODEV,
    addressOf(options),
  );
  if (result < 0) {
    print({ error: `mount failed, errno ${c.errno()}` });
    closeSync(fd);
    return;
  }
  const server = new Worker(fileURLToPath(import.meta.url), { workerData: fd });
  server.once('online', () => print({ mounted: true }));
  process.stdin.resume();
  process.stdin.once('end', () => {
    c.syscall(numberOf(arch, 'umount2'), addressOf(target), MNT_DETACH);
    process.exit(0);
  });
}

if (isMainThread) mount(process.argv[2] ?? '');
else answerAll(workerData as number);
