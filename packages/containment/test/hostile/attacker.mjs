// The hostile program of the attack tests: native code inside the sandbox, steered by the test line by line.
// It makes any system call with any arguments, and a few things that need more than one call.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import vm from 'node:vm';

const koffi = createRequire(import.meta.url)('./koffi.node');
const c = koffi.load('libc.so.6');
const raw = c.func('long syscall(long, long, long, long, long, long, long)');
const sleepAddress = c.symbol('sleep');
const exitAddress = c.symbol('_exit');
const pthreadCreate = c.func('int pthread_create(void*, void*, long, long)');
const sigaction = c.func('int sigaction(int, void*, void*)');
const kept = new Map();

/** number | 'self' | { s: text } | { hex } | { zeros } | { parts: [{ at, of }], bytes } | { keep, of } | { ref } */
function value(arg, buffers) {
  if (typeof arg === 'number') return arg;
  if (arg === 'self') return process.pid;
  if (arg.big !== undefined) return BigInt(arg.big);
  if (arg.ref !== undefined) return koffi.address(kept.get(arg.ref));
  let b;
  if (arg.s !== undefined) b = Buffer.from(`${arg.s}\0`, 'latin1');
  else if (arg.hex !== undefined) b = Buffer.from(arg.hex, 'hex');
  else b = Buffer.alloc(arg.zeros);
  for (const { at, of } of arg.parts ?? []) b.writeBigUInt64LE(BigInt(value(of, buffers)), at);
  if (arg.keep !== undefined) kept.set(arg.keep, b);
  buffers.push(b);
  return koffi.address(b);
}

function call({ nr, args }) {
  const buffers = [];
  const values = args.map((a) => value(a, buffers));
  while (values.length < 6) values.push(0);
  const result = Number(raw(nr, ...values));
  const errno = result < 0 ? koffi.errno() : 0;
  return { result, errno, buffers: buffers.map((b) => b.subarray(0, 256).toString('hex')) };
}

const verbs = {
  call,
  /** The same call many times; how many failed. */
  flood({ nr, args, times }) {
    let refused = 0;
    for (let i = 0; i < times; i++) if (call({ nr, args }).result < 0) refused++;
    return { refused };
  },
  /** A call that only the warden answers, for ever: what came back, and when (monotonic, nanoseconds). */
  testify({ nr, args }) {
    for (;;) {
      const { result, errno } = call({ nr, args });
      reply({ result, errno, at: String(process.hrtime.bigint()) });
    }
  },
  /** Native threads that sleep; how many started. */
  threads({ count }) {
    const out = Buffer.alloc(8);
    let started = 0;
    while (started < count && pthreadCreate(out, null, sleepAddress, 600) === 0) started++;
    return { started };
  },
  /**
   * Native code for a thread that starts threads which start threads, all at once and for ever. It touches no stack,
   * so that all can share one. Only before a model is touched: it needs an executable page.
   */
  plantBomb({ page }) {
    const code = Buffer.alloc(64);
    code.set([0xb8, 56, 0, 0, 0]); // mov eax, clone
    code.set([0xbf, 0x00, 0x0f, 0x3d, 0x00], 5); // mov edi, the flags of a thread
    [0x48be, 0x48ba, 0x49ba, 0x49b8].forEach((mov, i) => {
      code.writeUInt16BE(mov, 10 + 10 * i); // stack, parent's and child's word, thread pointer
      code.writeBigUInt64LE(BigInt(page + 2048), 12 + 10 * i);
    });
    code.set([0x0f, 0x05, 0xeb, 0xca], 50); // syscall; and again
    new Uint8Array(koffi.view(BigInt(page), 64)).set(code);
    return { planted: true };
  },
  /** Native code for a thread that asks the warden for ever. It touches no stack either. */
  plantAsking({ page, nr }) {
    const code = Buffer.from([0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]); // mov eax, nr; syscall; and again
    code.writeUInt32LE(nr, 1);
    new Uint8Array(koffi.view(BigInt(page), 64)).set(code);
    return { planted: true };
  },
  lightBomb({ page, threads }) {
    const out = Buffer.alloc(8);
    let started = 0;
    while (started < threads && pthreadCreate(out, null, page, 0) === 0) started++;
    return { started };
  },
  /** As the engine does before it touches a model: a crash leaves by _exit(signal), and the kernel logs nothing. */
  guard() {
    const action = Buffer.alloc(152);
    action.writeBigUInt64LE(BigInt(exitAddress), 0);
    return { results: [4, 5, 7, 8, 11].map((signal) => sigaction(signal, action, null)) };
  },
  /** Reads address 16. */
  crash() {
    return { read: koffi.decode(16n, 'int') };
  },
  js({ code }) {
    const body = vm.compileFunction(code, ['fs', 'process', 'require']);
    return body(fs, process, createRequire(import.meta.url));
  },
};

function reply(message) {
  fs.writeSync(1, `${JSON.stringify(message)}\n`);
}

reply({ ready: process.version });
let text = '';
const chunk = Buffer.alloc(65536);
for (;;) {
  const n = fs.readSync(0, chunk);
  if (n === 0) process.reallyExit(0);
  text += chunk.toString('utf8', 0, n);
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
    const line = text.slice(0, end);
    text = text.slice(end + 1);
    const message = JSON.parse(line);
    try {
      reply(verbs[message.verb](message));
    } catch (error) {
      reply({ thrown: error.code ?? String(error) });
    }
  }
}
