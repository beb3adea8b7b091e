/** The warden's side of the launcher: starts it with real pipes, gives it its job, takes the listener. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, readSync, writeSync } from 'node:fs';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { StartStep } from '../warden/control.ts';
import type { Arch } from './arch.ts';
import { receive } from './handover.ts';
import type { LauncherFault, LauncherJob, LauncherReady, LauncherReply } from './launcher-job.ts';
import { makePipe, makeSocketPair } from './libc.ts';
import { Listener } from './notify.ts';
import { watchReadable } from './readable.ts';

const REPLY_BYTES_MAX = 64 * 1024;

export interface Launched {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ready: LauncherReady;
  readonly listener: Listener;
}

/** What a failed step means for the reader. */
function faultError({ step, errno, message }: LauncherFault): MinikeepError {
  if (step === 'user')
    return new MinikeepError(
      'sandbox.no_unprivileged_user',
      `engines never run as root, and ${message}`,
      {
        next: 'Run minikeep as an ordinary user, or in a container or namespace that maps more than user 0.',
      },
    );
  if (step === 'seccomp')
    return new MinikeepError(
      'sandbox.no_seccomp',
      `the kernel refuses the sandbox's system call filter (errno ${errno})`,
      {
        next:
          errno === 16
            ? 'Another program already watches this process tree with a seccomp listener: run minikeep outside of it.'
            : 'Linux 5.19 or newer with seccomp is needed; in a container, its profile must permit seccomp(2).',
      },
    );
  return new MinikeepError(
    'sandbox.launch_failed',
    `the engine's sandbox could not be set up: ${message}`,
    {
      next: 'Run `minikeep canary` to see what this machine can enforce.',
      details: { step, errno },
    },
  );
}

interface Wires {
  readonly stdin: number;
  readonly stdout: number;
}

/** Starts the launcher. `wires` are the engine's stdin and stdout; they are closed here after the start. */
export function startLauncher(
  node: string,
  script: string,
  arch: Arch,
  wires: Wires,
): { child: ChildProcess; socket: number; stderr: number } {
  const [ours, theirs] = makeSocketPair(arch.numbers);
  const [stderr, stderrWrite] = makePipe(arch.numbers);
  const options = ['--disable-sigusr1', '--jitless', '--no-warnings', '--max-old-space-size=64'];
  const child = spawn(node, [...options, script], {
    stdio: [wires.stdin, wires.stdout, stderrWrite, theirs],
    detached: true, // setsid: its own session, no terminal
    // One thread in the pool: the one that becomes the engine.
    env: { LANG: 'C', UV_USE_IO_URING: '0', UV_THREADPOOL_SIZE: '1' },
    cwd: '/',
  });
  for (const fd of [wires.stdin, wires.stdout, theirs, stderrWrite]) closeSync(fd);
  return { child, socket: ours, stderr };
}

/** Tells how far a start has come; the process is the one that is waited for. */
export type OnStep = (step: StartStep, pid?: number) => void;

/**
 * Sends the job and waits for the reply and the listener. How long is for whoever waits for the start to say
 * (warden-client.ts): the warden is killed when it takes too long, and the launcher ends with it.
 */
export async function handshake(
  started: { readonly child: ChildProcess; readonly socket: number },
  arch: Arch,
  job: LauncherJob,
  onStep: OnStep,
): Promise<Launched> {
  const { child, socket } = started;
  writeSync(socket, `${JSON.stringify(job)}\n`);
  const pid = child.pid;
  if (pid === undefined)
    throw new MinikeepError('sandbox.launch_failed', 'the launcher did not start', {
      next: 'Check that this machine can start another process (memory, process limits).',
    });
  onStep('launcher', pid);
  let ready: LauncherReady | undefined;
  // One wait for both: closing a poll handle and opening another on the same descriptor loses events.
  const fd = await waitFor(socket, () => {
    if (ready === undefined) {
      const reply = readReply(socket);
      if (reply.type === 'ready') ({ ready } = reply);
      onStep(reply.type === 'ready' ? 'filter' : 'rights');
      return undefined;
    }
    const got = receive(arch, socket);
    if (got.kind === 'again') return undefined;
    // A fault may follow instead: then its first byte was taken, and no descriptor came with it.
    return got.kind === 'descriptor' ? got.fd : readFault(socket, '{');
  });
  if (ready === undefined) throw new Error('unreachable: the listener comes after the reply');
  closeSync(socket);
  onStep('program');
  return { child, pid, ready, listener: new Listener(fd) };
}

/** Calls `attempt` whenever the socket is readable, until it returns something. */
function waitFor<T>(socket: number, attempt: () => T | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const watch = watchReadable(socket, () => {
      try {
        const result = attempt();
        if (result === undefined) return;
        watch.close();
        resolve(result);
      } catch (error) {
        watch.close();
        reject(toMinikeepError(error));
      }
    });
  });
}

/**
 * Reads one byte at a time: what follows the line is the descriptor's message, which only recvmsg may take. The
 * launcher writes a line at once, so a part of one is all that will ever come.
 */
function readLine(socket: number, start: string): string | undefined {
  const byte = Buffer.alloc(1);
  let text = start;
  try {
    while (text.length < REPLY_BYTES_MAX && readSync(socket, byte, 0, 1, null) === 1) {
      if (byte[0] === 0x0a) return text;
      text += byte.toString('latin1');
    }
  } catch {
    return undefined;
  }
  return undefined;
}

function readReply(socket: number): Exclude<LauncherReply, { type: 'fault' }> {
  const text = readLine(socket, '');
  if (text === undefined)
    throw faultError({ step: 'start', errno: 0, message: 'the launcher ended without a word' });
  const reply = JSON.parse(text) as LauncherReply;
  if (reply.type === 'fault') throw faultError(reply.fault);
  return reply;
}

/** After `ready` the launcher says a fault (its first byte was taken by recvmsg) or is gone. */
function readFault(socket: number, start: string): never {
  const text = readLine(socket, start);
  const reply = text === undefined ? undefined : (JSON.parse(text) as LauncherReply);
  if (reply?.type === 'fault') throw faultError(reply.fault);
  throw faultError({
    step: 'handover',
    errno: 0,
    message: 'the launcher ended before the filter was in place',
  });
}
