/**
 * The warden's loop: takes notifications, asks the judge, answers. While the engine asks in bursts (Node's start) it
 * stays with the listener instead of going round by the event loop, which halves the time of a start.
 */
import { closeSync } from 'node:fs';
import { type Attempt, type Decision, ERRNO } from '../warden/attempt.ts';
import type { Arch } from './arch.ts';
import type { Judge } from './judge.ts';
import { EngineMemory, type EngineUser, type ReadableMemory } from './memory.ts';
import { ENOENT, type Listener, type Notification } from './notify.ts';
import { watchReadable } from './readable.ts';

/** How long the loop stays for the next one of a burst, and how long it keeps from the event loop in all. */
const BURST_WAIT_MS = 1;
const BURST_MS_MAX = 25;

const NO_MEMORY: ReadableMemory = { read: () => Buffer.alloc(0), write: () => false };

export interface ServeOptions {
  readonly arch: Arch;
  readonly listener: Listener;
  readonly judge: Judge;
  readonly pid: number;
  readonly user: EngineUser;
  /** Called once, at the engine's first call after execveat. */
  readonly onEngine: () => void;
  readonly onAttempt: (attempt: Attempt) => void;
  readonly onFile: (path: string) => void;
  /** The warden can't answer: the engine must die. */
  readonly onFault: (error: unknown) => void;
}

export interface Serving {
  /** Notifications answered so far. */
  readonly count: () => number;
  /** The engine's memory map now; empty before it runs. */
  readonly maps: () => string;
  readonly close: () => void;
}

export function serve(options: ServeOptions): Serving {
  const { listener, judge } = options;
  let memory: EngineMemory | undefined;
  let count = 0;
  let closed = false;

  /** A thread that is gone needs no answer; any other that is not sent would let its thread wait for ever. */
  const arrived = (errno: number): void => {
    if (errno !== 0 && errno !== ENOENT)
      throw new Error(`an answer could not be given, errno ${errno}`);
  };
  const answer = (id: bigint, { answer: a }: Decision): void => {
    switch (a.do) {
      case 'continue':
        return arrived(listener.answerContinue(id));
      case 'value':
        return arrived(listener.answerValue(id, a.value));
      case 'errno':
        return arrived(listener.answerErrno(id, a.errno));
      case 'descriptor': {
        const result = listener.answerDescriptor(id, a.fd, a.close_on_exec);
        closeSync(a.fd);
        if ('fd' in result) a.given(result.fd);
        // No room for a descriptor there: say so, or the thread would wait for ever.
        else {
          const errno = result.errno === ENOENT ? ERRNO.EMFILE : result.errno;
          arrived(listener.answerErrno(id, errno));
        }
      }
    }
  };

  const handle = (n: Notification): void => {
    count++;
    if (judge.executed && memory === undefined) {
      const opened = EngineMemory.open(options.arch, options.pid, options.user);
      if (!listener.valid(n.id)) {
        opened.close(); // killed while we looked: the id may be another process's by now
        return;
      }
      memory = opened;
      options.onEngine();
    }
    const maps = (): Buffer => memory?.maps() ?? Buffer.alloc(0);
    const decision = judge.decide(n, memory ?? NO_MEMORY, maps);
    // Recorded before it is answered: what the engine learns, we know.
    if (decision.attempt !== undefined) options.onAttempt({ ...decision.attempt, thread: n.tid });
    if (decision.hands_over !== undefined) options.onFile(decision.hands_over);
    answer(n.id, decision);
  };

  const close = (): void => {
    if (closed) return;
    closed = true;
    watch.close();
    closeSync(listener.fd);
    memory?.close();
  };

  const burst = (): void => {
    const end = performance.now() + BURST_MS_MAX;
    try {
      while (performance.now() < end) {
        const state = listener.wait(BURST_WAIT_MS);
        if (state === 'ended') close();
        if (state !== 'ready') return;
        const notification = listener.receive();
        if (notification !== undefined) handle(notification);
      }
    } catch (error) {
      if (!closed) options.onFault(error);
    }
  };
  const watch = watchReadable(listener.fd, burst);
  const maps = (): string => (closed ? '' : (memory?.maps().toString('latin1') ?? ''));
  return { count: () => count, maps, close };
}
