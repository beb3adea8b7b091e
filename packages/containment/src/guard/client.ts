/**
 * A guarded process's side: says where it is about to connect, hears what was refused, and has its wardens started. Made
 * once, at the process's very start.
 */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { onReaching } from '@minikeep/protocol/rpc';
import type { Violation } from '../sandbox.ts';
import { lineReader } from '../warden/control.ts';
import { Silence } from '../warden/silence.ts';
import {
  type FromGuard,
  GUARD_MISSING,
  GUARD_PIPES,
  type ToGuard,
  type WardenWires,
} from './control.ts';

/** Violations that nobody asked for yet. */
const EARLY_MAX = 1_000;

export interface WardenEnd {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why it never began; else empty. */
  readonly why: string;
}

export interface GuardedWarden {
  readonly onPid: (listener: (pid: number) => void) => void;
  readonly ended: Promise<WardenEnd>;
  kill(): void;
}

export class GuardClient {
  readonly #write: number;
  readonly #listeners: ((violation: Violation) => void)[] = [];
  readonly #early: Violation[] = [];
  readonly #wardens = new Map<
    number,
    { readonly pid: (pid: number) => void; readonly end: (end: WardenEnd) => void }
  >();
  readonly #silence = new Silence();
  #wardenIds = 0;

  constructor(write: number, read: number) {
    this.#write = write;
    const socket = new Socket({ fd: read, readable: true, writable: false });
    // It ends only with the guard: nobody would hear of attempts any more.
    const gone = (): void => void process.kill(process.pid, 'SIGKILL');
    socket.on(
      'data',
      lineReader((message) => this.#hear(message as FromGuard), gone),
    );
    socket.on('error', gone);
    socket.on('end', gone);
    // What keeps the process alive is its work.
    socket.unref();
  }

  /** Comes to the guard before anything that is asked of the kernel after it. */
  reaching(address: string): void {
    this.#say({ type: 'peer', address });
  }

  /** Why its attempts may go unseen; empty while the guard is heard. */
  blind(): string {
    return this.#silence.tooLong ? 'the guard is not heard any more' : '';
  }

  onViolation(listener: (violation: Violation) => void): void {
    this.#listeners.push(listener);
    for (const violation of this.#early.splice(0)) listener(violation);
  }

  /** The guard copies the descriptors; they may be closed once `onPid` or `ended` says so. */
  startWarden(wires: WardenWires): GuardedWarden {
    const id = ++this.#wardenIds;
    const end = Promise.withResolvers<WardenEnd>();
    const started = Promise.withResolvers<number>();
    this.#wardens.set(id, { pid: started.resolve, end: end.resolve });
    this.#say({ type: 'warden', id, wires });
    return {
      onPid: (listener) => void started.promise.then(listener),
      ended: end.promise,
      kill: () => this.#say({ type: 'kill_warden', id }),
    };
  }

  #say(message: ToGuard): void {
    try {
      writeSync(this.#write, `${JSON.stringify(message)}\n`);
    } catch {
      // The guard is gone, and in a moment we are, too.
    }
  }

  #hear(message: FromGuard): void {
    switch (message.type) {
      case 'violation': {
        const { violation } = message;
        if (this.#listeners.length === 0 && this.#early.length < EARLY_MAX)
          this.#early.push(violation);
        for (const listener of this.#listeners) listener(violation);
        return;
      }
      case 'warden':
        return this.#wardens.get(message.id)?.pid(message.pid);
      case 'warden_ended': {
        const { id, code, signal, why } = message;
        this.#wardens.get(id)?.end({ code, signal, why });
        this.#wardens.delete(id);
        return;
      }
      case 'alive':
        return this.#silence.heard();
      case 'listed':
        return;
    }
  }
}

/** Whether this process is guarded, and why not if it should be. */
export type Guarding =
  | { readonly state: 'on'; readonly guard: GuardClient }
  | { readonly state: 'missing'; readonly why: string }
  /** Nobody asked for a guard. */
  | { readonly state: 'off' };

let found: Guarding | undefined;

/**
 * The process's guard. The first call takes it out of the environment, so that no child believes that it has one, and
 * lets the kernel end the process with its guard.
 */
export async function guarding(): Promise<Guarding> {
  if (found !== undefined) return found;
  const { [GUARD_PIPES]: pipes, [GUARD_MISSING]: why } = process.env;
  Reflect.deleteProperty(process.env, GUARD_PIPES);
  Reflect.deleteProperty(process.env, GUARD_MISSING);
  const [, write, read] = /^(\d{1,4}),(\d{1,4})$/.exec(pipes ?? '') ?? [];
  if (write === undefined || read === undefined)
    found = why === undefined ? { state: 'off' } : { state: 'missing', why };
  else {
    const guard = new GuardClient(Number(write), Number(read));
    found = { state: 'on', guard };
    onReaching((address) => guard.reaching(address));
    const { dieWithParent } = await import('../linux/die-with-parent.ts');
    dieWithParent();
  }
  return found;
}

/** For those that come later than the first call. */
export const guardClient = (): GuardClient | undefined =>
  found?.state === 'on' ? found.guard : undefined;
