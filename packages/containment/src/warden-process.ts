/**
 * The warden's process as its agent holds it: three pipes and an end. The agent starts it itself, or, where it runs
 * under a guard (guard/client.ts), has the guard start it: a process under one filter with a listener can have no
 * second one, so a warden that was an agent's child could watch no engine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { type GuardClient, guardClient } from './guard/client.ts';
import { type FromWarden, line, lineReader, type ToWarden } from './warden/control.ts';
import { escapeBytes } from './warden/escape.ts';
import { STDERR_TAIL_BYTES } from './warden/limits.ts';
import { WARDEN_ENV, wardenArguments } from './warden/node-options.ts';

/** Ends of pipes that the warden gets; closed here once it has them. */
export interface EngineEnds {
  readonly stdin: number;
  readonly stdout: number;
}

export interface StartWarden {
  /** The warden's program, a path. */
  readonly program: string;
  /** Absent: no engine is to be started. */
  readonly engine?: EngineEnds;
  readonly makePipe: () => readonly [number, number];
}

interface Held {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  kill(): void;
  onPid(listener: (pid: number) => void): void;
  /** After everything that it said was read. */
  onEnd(listener: (why: string) => void): void;
}

function ofChild({ program, engine }: StartWarden): Held {
  const child: ChildProcess = spawn(process.execPath, wardenArguments(program), {
    stdio: ['pipe', 'pipe', 'pipe', engine?.stdin ?? 'ignore', engine?.stdout ?? 'ignore'],
    detached: true, // Ctrl-C is the agent's business
    env: WARDEN_ENV,
    cwd: '/',
  });
  if (engine !== undefined) for (const fd of [engine.stdin, engine.stdout]) closeSync(fd);
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null)
    throw new Error('the warden has no pipes');
  return {
    stdin,
    stdout,
    stderr,
    kill: () => void child.kill('SIGKILL'),
    onPid: (listener) => {
      if (child.pid !== undefined) listener(child.pid);
    },
    onEnd: (listener) => {
      child.once('error', (error) => listener(`could not be started: ${error.message}`));
      child.once('close', (code, signal) => listener(`ended (${signal ?? `code ${code}`})`));
    },
  };
}

function ofGuard(guard: GuardClient, { engine, makePipe }: StartWarden): Held {
  const open: number[] = engine === undefined ? [] : [engine.stdin, engine.stdout];
  const ours: Socket[] = [];
  const closeTheirs = (): void => {
    for (const fd of open.splice(0)) closeSync(fd);
  };
  /** One end is theirs, the other one a stream here. */
  const pipe = (reading: boolean): [number, Socket] => {
    const [readEnd, writeEnd] = makePipe();
    const [fd, theirs] = reading ? [readEnd, writeEnd] : [writeEnd, readEnd];
    open.push(theirs);
    const socket = new Socket({ fd, readable: reading, writable: !reading });
    ours.push(socket);
    return [theirs, socket];
  };
  try {
    const [stdinFd, stdin] = pipe(false);
    const [stdoutFd, stdout] = pipe(true);
    const [stderrFd, stderr] = pipe(true);
    const warden = guard.startWarden({
      stdin: stdinFd,
      stdout: stdoutFd,
      stderr: stderrFd,
      ...(engine === undefined ? {} : { engine }),
    });
    warden.onPid(closeTheirs);
    const closed = [stdout, stderr].map(
      (socket) => new Promise<void>((resolve) => socket.once('close', () => resolve())),
    );
    for (const socket of [stdout, stderr]) socket.on('error', () => socket.destroy());
    const ended = warden.ended.then(async ({ code, signal, why }) => {
      closeTheirs();
      await Promise.all(closed);
      return why === '' ? `ended (${signal ?? `code ${code}`})` : `could not be started: ${why}`;
    });
    return {
      stdin,
      stdout,
      stderr,
      kill: () => warden.kill(),
      onPid: (listener) => warden.onPid(listener),
      onEnd: (listener) => void ended.then(listener),
    };
  } catch (error) {
    closeTheirs();
    for (const socket of ours) socket.destroy();
    throw error;
  }
}

export class WardenProcess {
  readonly #held: Held;
  #stderr = Buffer.alloc(0);

  /** `onEnd` is called at least once. Throws when there are no descriptors left for its pipes. */
  constructor(
    options: StartWarden,
    onMessage: (message: FromWarden) => void,
    onEnd: (why: string) => void,
  ) {
    const guard = guardClient();
    const held = guard === undefined ? ofChild(options) : ofGuard(guard, options);
    this.#held = held;
    const broken = (error: Error): void => {
      held.kill();
      onEnd(`the warden's messages are broken: ${error.message}`);
    };
    held.stdout.on(
      'data',
      lineReader((message) => onMessage(message as FromWarden), broken),
    );
    held.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-STDERR_TAIL_BYTES);
    });
    held.stdin.on('error', () => undefined); // the end is seen by its other pipes
    held.onEnd((how) => {
      const said = escapeBytes(this.#stderr, 500);
      held.stdin.destroy();
      onEnd(`the warden ${how}${said === '' ? '' : `: ${said}`}`);
    });
  }

  onPid(listener: (pid: number) => void): void {
    this.#held.onPid(listener);
  }

  send(message: ToWarden): void {
    if (this.#held.stdin.writable) this.#held.stdin.write(line(message));
  }

  kill(): void {
    this.#held.kill();
  }
}
