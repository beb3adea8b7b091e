/**
 * Stands for an agent in another situation than the test's: another user, other capabilities, a filter around it.
 * Bundled by installed.ts and started as a process. Prints one JSON line.
 *
 * Arguments: `short`, `hold` or `serve`, then any of --deny-pidfd-getfd, --own-listener. `serve` starts one sandbox as
 * elsewhere.ts asks on stdin, with the engine's pipes on 3 and 4, and lives as long as its stdin.
 */
import { Socket } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MinikeepError } from '@minikeep/protocol';
import { type Sandbox, sandboxPlatform } from '../../src/index.ts';
import { hostArch, numberOf } from '../../src/linux/arch.ts';
import { ACTION, encode, OP, type Instruction } from '../../src/linux/bpf.ts';
import { addressOf, libc } from '../../src/linux/libc.ts';
import { Attacked } from './attacked.ts';
import type { FromDriver, ToDriver } from './elsewhere.ts';

const EPERM = 1;
const [scenario, ...options] = process.argv.slice(2);
const folder = path.dirname(fileURLToPath(import.meta.url));
const arch = hostArch();
const c = libc();
const call = (name: string, ...args: (number | bigint)[]): number =>
  c.syscall(numberOf(arch, name), ...args);

/** What a container's profile does around a program: one call answered with EPERM, or a listener of its own. */
function outerFilter(program: Instruction[], flags: number): void {
  const filter = encode(program);
  const description = Buffer.alloc(16);
  description.writeUInt16LE(filter.length / 8, 0);
  description.writeBigUInt64LE(addressOf(filter), 8);
  call('prctl', 38, 1, 0, 0, 0);
  if (call('seccomp', 1, flags, addressOf(description)) < 0)
    throw new Error(`the outer filter failed, errno ${c.errno()}`);
}
const ret = (k: number): Instruction => ({ code: OP.ret, jt: 0, jf: 0, k: k >>> 0 });

if (options.includes('--deny-pidfd-getfd')) {
  outerFilter(
    [
      { code: OP.load, jt: 0, jf: 0, k: 0 },
      { code: OP.jumpEqual, jt: 0, jf: 1, k: numberOf(arch, 'pidfd_getfd') },
      ret(ACTION.errno | EPERM),
      ret(ACTION.allow),
    ],
    1,
  );
  if (call('pidfd_getfd', -1, 0, 0) >= 0 || c.errno() !== EPERM) throw new Error('not denied');
}
if (options.includes('--own-listener')) outerFilter([ret(ACTION.allow)], 8);

const print = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};

async function short(): Promise<void> {
  const support = await sandboxPlatform().support();
  const engine = await Attacked.start(folder);
  const { readFileSync } = await import('node:fs');
  const status = readFileSync(`/proc/${engine.sandbox.pid}/status`, 'utf8');
  await engine.sealed();
  const seen = await engine.provoke(async () => {
    await engine.call('openat', -100, { s: '/etc/shadow' }, 0);
    await engine.call('socket', 2, 1, 0);
    await engine.call('kill', process.pid, 9);
  });
  const exit = await engine.end();
  print({
    agent: process.pid,
    support,
    uid: Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]),
    seen: seen.map((v) => `${v.kind} ${v.operation} ${v.target}`),
    files: engine.sandbox.filesRead.length,
    exit,
  });
}

function serve(): void {
  const say = (message: FromDriver): void => print(message);
  const sayError = (error: unknown): void => {
    const code = error instanceof MinikeepError ? error.code : 'unknown';
    say({ type: 'error', code, message: String(error) });
  };
  let sandbox: Promise<Sandbox> | undefined;
  const launch = async (spec: Parameters<ReturnType<typeof sandboxPlatform>['launch']>[0]) => {
    const launched = await sandboxPlatform().launch(spec);
    let told = 0;
    const tellFiles = (): void => {
      if (launched.filesRead.length > told)
        say({ type: 'files', files: launched.filesRead.slice(told) });
      told = launched.filesRead.length;
    };
    say({ type: 'launched', pid: launched.pid, instance: launched.instance });
    launched.onViolation((violation) => {
      tellFiles();
      say({ type: 'violation', violation });
    });
    const input = new Socket({ fd: 3, readable: true, writable: false });
    const output = new Socket({ fd: 4, readable: false, writable: true });
    input.pipe(launched.input);
    launched.output.pipe(output);
    void launched.exited.then((exit) => {
      tellFiles();
      say({ type: 'exit', exit });
    });
    return launched;
  };
  createInterface({ input: process.stdin })
    .on('line', (text) => {
      const message = JSON.parse(text) as ToDriver;
      if (message.type === 'launch') (sandbox = launch(message.spec)).catch(sayError);
      else if (message.type === 'seal')
        sandbox?.then((s) => s.seal()).then(() => say({ type: 'sealed' }), sayError);
      else void sandbox?.then((s) => s.kill(message.reason));
    })
    .once('close', () => process.exit(0));
}

try {
  if (scenario === 'short') await short();
  else if (scenario === 'serve') serve();
  else {
    const engine = await Attacked.start(folder);
    print({ engine: engine.sandbox.pid });
    setInterval(() => undefined, 1000);
  }
} catch (error) {
  const known = error instanceof MinikeepError;
  print({
    error: known ? { code: error.code, message: error.message, next: error.next } : String(error),
  });
  process.exitCode = 1;
}
