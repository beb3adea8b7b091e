/**
 * The guard: parent of one agent or coordinator. It starts the process under a filter, makes those connections for it
 * that are on its connect list, refuses and tells the others, and starts wardens for it. It reads no model, no prompt
 * and no frame, and has no code by others but koffi. The process ends with it, and it with the process.
 *
 * `guard.mjs JOB`: see guard/control.ts. Standard input, output and error belong to the process; the guard only adds
 * lines of its own to the output, for whoever started it.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Attempts } from '../../guard/attempts.ts';
import { attachedNetworks } from '../../guard/attached.ts';
import { ConnectList, parseEndpoint, parseNetwork } from '../../guard/connect-list.ts';
import { GUARD_MISSING, GUARD_PIPES, type GuardJob, type ToGuard } from '../../guard/control.ts';
import { FOLD_MS, UNLISTED_TOLD_MAX } from '../../guard/limits.ts';
import { escapeText } from '../../warden/escape.ts';
import { hostArch, numberOf } from '../arch.ts';
import { addressOf, libc, makePipe } from '../libc.ts';
import { Listener } from '../notify.ts';
import { watchReadable } from '../readable.ts';
import { Inbox } from './inbox.ts';
import { GuardJudge } from './judge.ts';
import { ThreadMemory } from './memory.ts';
import { Outbox } from './outbox.ts';
import { serveGuard } from './serve.ts';
import { Sockets } from './sockets.ts';
import { GuardUnavailable, startGuarded } from './start.ts';
import { Wardens } from './wardens.ts';

const PR_SET_DUMPABLE = 4;
const WNOHANG = 1;
/** Where the process has its pipes. */
const TO_GUARD = 3;
const FROM_GUARD = 4;
/** Longer than a process's own limit for ending in order, once whoever started us is gone. */
const ORPHAN_MS_MAX = 15_000;
const INSTANCE_BYTES = 8;
const PASSED_ON = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2'] as const;

const job = JSON.parse(process.argv[2] ?? '') as GuardJob;
const arch = hostArch();
const c = libc();
const call = (name: string, ...args: (number | bigint)[]): number =>
  c.syscall(numberOf(arch, name), ...args);
const log = (level: string, message: string, fields: object): void => {
  const at = new Date().toISOString();
  const name = `guard of the ${job.purpose}`;
  errors.send({ at, level, process: name, message, ...fields });
};

/** Ours is what the process gets, but for what is ours alone. */
function environment(extra: Readonly<Record<string, string>>): Record<string, string> {
  const { UV_THREADPOOL_SIZE: _, ...rest } = process.env;
  const ours = Object.entries(rest).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return { ...Object.fromEntries(ours), ...extra };
}

const argv = (): string[] => [process.execPath, ...job.flags, job.program, ...job.args];

/** Ends as the process did. */
function leave(code: number | null, signal: NodeJS.Signals | null): void {
  if (signal === null) process.exit(code ?? 1);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  // A signal that ends nobody.
  setTimeout(() => process.exit(1), 100);
}

/** Becomes the process, without a filter, and everyone is told so. */
function becomeUnguarded(why: string): void {
  const message = `the ${job.purpose} runs without a connect list: ${why}`;
  const next =
    'Linux 5.19 or newer with seccomp is needed; in a container, its profile must permit seccomp, pidfd_getfd and reading the memory of a child (Docker: --cap-add SYS_PTRACE).';
  starter.send({ type: 'warning', code: 'guard.unavailable', message, next });
  process.execve?.(process.execPath, argv(), environment({ [GUARD_MISSING]: why }));
}

/** What came of it, so that the process hears; its stderr, so that whoever reads the log does. */
function listPeer(address: string): void {
  const { listed, fresh, why } = list.add(address);
  if (!fresh || (!listed && ++unlisted > UNLISTED_TOLD_MAX)) return;
  const text = escapeText(address);
  if (listed) log('info', 'on the connect list', { address: text, peers: list.size });
  // Whoever was turned names what it likes: a prompt, perhaps. No log keeps it.
  else log('warn', 'an address was not taken on the connect list', { length: text.length, why });
  outbox.send({ type: 'listed', address: text, listed, why });
}

function onMessage(message: ToGuard): void {
  switch (message.type) {
    case 'peer':
      return listPeer(message.address);
    case 'warden':
      return wardens.start(message.id, message.wires);
    case 'kill_warden':
      return wardens.kill(message.id);
  }
}

/** Ends with the process, in the same way. */
function endWith(pid: number): void {
  watchReadable(must('pidfd_open', call('pidfd_open', pid, 0)), () => {
    const status = Buffer.alloc(4);
    if (call('wait4', pid, addressOf(status), WNOHANG, 0) !== pid) return;
    const word = status.readInt32LE(0);
    const number = word & 0x7f;
    const name = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
    attempts.end();
    leave(number === 0 ? (word >> 8) & 0xff : null, (name ?? null) as NodeJS.Signals | null);
  });
}

/** The process ends by itself when its standard input does. One that was turned does not. */
function endAfter(starter: number, pid: number): void {
  const pidfd = call('pidfd_open', starter, 0);
  const gone = (): void => void setTimeout(() => process.kill(pid, 'SIGKILL'), ORPHAN_MS_MAX);
  if (pidfd < 0 || process.ppid !== starter) return gone();
  const watch = watchReadable(pidfd, () => {
    watch.close();
    gone();
  });
}

function must(what: string, result: number): number {
  if (result < 0) throw new GuardUnavailable(what, c.errno());
  return result;
}

/** Whether this machine lets us hold a process: descriptors and memory of a child have to be had. */
function checkHold(pid: number): void {
  const copy = sockets.borrow(pid, 0);
  if (copy < 0) throw new GuardUnavailable('pidfd_getfd', -copy);
  sockets.close(copy);
  try {
    new ThreadMemory(pid).close();
  } catch {
    throw new GuardUnavailable("reading the process's memory", 0);
  }
}

const sockets = new Sockets(arch);
let unlisted = 0;
let pid = 0;
const [processReads, guardWrites] = makePipe(arch.numbers);
const [guardReads, processWrites] = makePipe(arch.numbers);
const outbox = new Outbox(arch, guardWrites);
/** Standard output, which the process shares: whoever started us reads both. */
const starter = new Outbox(arch, 1);
const errors = new Outbox(arch, 2);
const list = new ConnectList({
  networks: job.networks.flatMap((text) => parseNetwork(text) ?? []),
  attached: attachedNetworks,
  now: () => performance.now(),
});
const attempts = new Attempts({
  instance: randomBytes(INSTANCE_BYTES).toString('hex'),
  purpose: job.purpose,
  now: () => Date.now() / 1000,
  monotonicMs: () => performance.now(),
  // By two ways: a process that was turned can keep its own back, but not ours.
  report: (violation) => {
    outbox.send({ type: 'violation', violation });
    starter.send({ type: 'violation', violation });
  },
});
const wardens = new Wardens({
  sockets,
  program: path.join(path.dirname(fileURLToPath(import.meta.url)), 'warden.mjs'),
  pid: () => pid,
  report: (message) => outbox.send(message),
});

// Nobody of the same user may look into us, or change us.
call('prctl', PR_SET_DUMPABLE, 0, 0, 0, 0);
try {
  const child = await startGuarded(arch, {
    program: process.execPath,
    argv: argv(),
    env: environment({ [GUARD_PIPES]: `${TO_GUARD},${FROM_GUARD}`, UV_USE_IO_URING: '0' }),
    descriptors: new Map([
      [0, 0],
      [1, 1],
      [2, 2],
      [TO_GUARD, processWrites],
      [FROM_GUARD, processReads],
    ]),
    monitors: [process.pid, job.starter_pid],
  });
  pid = child.pid;
  try {
    checkHold(pid);
  } catch (error) {
    process.kill(pid, 'SIGKILL');
    throw error;
  }
  closeSync(processReads);
  closeSync(processWrites);
  const inbox = new Inbox(guardReads, onMessage, (why) => {
    log('error', 'the process said something else than a message', { why });
    process.kill(pid, 'SIGKILL');
  });
  for (const signal of PASSED_ON) process.on(signal, () => process.kill(pid, signal));
  process.on('SIGPIPE', () => undefined);
  endWith(pid);
  endAfter(job.starter_pid, pid);
  setInterval(() => {
    attempts.tick();
    outbox.send({ type: 'alive' });
    outbox.flush();
    starter.flush();
  }, FOLD_MS);
  serveGuard({
    listener: new Listener(child.listener),
    judge: new GuardJudge({
      arch,
      list,
      listen: job.listen.flatMap((text) => {
        const endpoint = parseEndpoint(text);
        return endpoint?.hosts.map((host) => ({ host, port: endpoint.port })) ?? [];
      }),
      discovery: job.discovery,
      sockets,
      monitors: new Set([process.pid, job.starter_pid]),
    }),
    beforeEach: () => inbox.read(),
    onAttempt: (attempt) => attempts.record(attempt),
    // A question without an answer would let its thread wait for ever.
    onFault: (error) => {
      log('error', 'the guard could not answer', { error: String(error) });
      process.kill(pid, 'SIGKILL');
    },
  });
} catch (error) {
  if (!(error instanceof GuardUnavailable)) throw error;
  becomeUnguarded(error.message);
}
