/** The guard's loop: takes what the kernel asks, lets the judge decide, answers. */
import { type Attempt, type Decision, ERRNO } from '../../warden/attempt.ts';
import { ENOENT, type Listener, type Notification } from '../notify.ts';
import { watchReadable } from '../readable.ts';
import type { GuardJudge } from './judge.ts';
import { NO_MEMORY, processOf, ThreadMemory } from './memory.ts';

/** How long a burst of questions keeps the guard from everything else. */
const BURST_MS_MAX = 25;

export interface ServeGuardOptions {
  readonly listener: Listener;
  readonly judge: GuardJudge;
  /** Called before a decision: what the process said before it asked, has to be known. */
  readonly beforeEach: () => void;
  readonly onAttempt: (attempt: Attempt) => void;
  /** No answer can be given any more. */
  readonly onFault: (error: unknown) => void;
}

export function serveGuard(options: ServeGuardOptions): void {
  const { listener, judge } = options;

  const send = (id: bigint, { answer }: Decision): number => {
    switch (answer.do) {
      case 'continue':
        return listener.answerContinue(id);
      case 'value':
        return listener.answerValue(id, answer.value);
      case 'errno':
        return listener.answerErrno(id, answer.errno);
      case 'descriptor':
        throw new Error('a guard hands nothing over');
    }
  };

  const handle = (n: Notification): void => {
    options.beforeEach();
    let memory: ThreadMemory | undefined;
    try {
      memory = new ThreadMemory(n.tid);
    } catch {
      // Hidden memory: what it asks can't be looked at, and is refused with an unknown target.
    }
    const pid = processOf(n.tid);
    const waits = (): boolean => listener.valid(n.id);
    try {
      // Killed while we looked: the number may be another's by now.
      if (pid === undefined || !waits()) return;
      const { nr, args } = n;
      const decision = judge.decide({ nr, args, pid, memory: memory ?? NO_MEMORY, waits });
      // Recorded before it is answered: what the process learns, we know.
      if (decision.attempt !== undefined) options.onAttempt({ ...decision.attempt, thread: n.tid });
      const errno = send(n.id, decision);
      if (errno !== 0 && errno !== ENOENT)
        throw new Error(`an answer could not be given, errno ${errno}`);
    } catch (error) {
      // A fault of ours refuses: the thread must not wait for ever, and not go on.
      listener.answerErrno(n.id, ERRNO.EPERM);
      throw error;
    } finally {
      memory?.close();
    }
  };

  const watch = watchReadable(listener.fd, () => {
    const end = performance.now() + BURST_MS_MAX;
    try {
      while (performance.now() < end) {
        const state = listener.wait(0);
        // Nobody is left who could ask; the guard ends when it hears of the process's end.
        if (state === 'ended') return watch.close();
        if (state !== 'ready') return;
        const notification = listener.receive();
        if (notification !== undefined) handle(notification);
      }
    } catch (error) {
      options.onFault(error);
    }
  });
}
