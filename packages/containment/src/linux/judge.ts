/**
 * Decides each notification: let go on (registers only), answer from the warden's own knowledge, or refuse and name.
 * Everything that the engine controls comes in through `args` and `memory`; nothing here trusts it.
 */
import type { SandboxPurpose, StrikePolicy } from '../sandbox.ts';
import { type Attempt, CONTINUE, type Decision, ERRNO, fails, returns } from '../warden/attempt.ts';
import { type Arch, syscallNames } from './arch.ts';
import { Decoys, refuseSocketCall } from './decoy.ts';
import { describe } from './describe.ts';
import type { FileTable } from './files.ts';
import { KNOWN_CALLS } from './known.ts';
import type { ReadableMemory } from './memory.ts';
import { continueTable, type EngineIdentity, mayContinue } from './match.ts';
import type { Notification } from './notify.ts';
import { PathJudge } from './paths.ts';
import { CLONE_THREAD_FLAGS, CONTINUED, type Phase, PHASES } from './rules.ts';
import { ThreadGate } from './threads.ts';

export interface JudgeOptions {
  readonly arch: Arch;
  readonly purpose: SandboxPurpose;
  readonly policy: StrikePolicy;
  readonly files: FileTable;
  readonly program: string;
  readonly entry: string;
  readonly loader: { readonly names: ReadonlySet<string>; readonly folders: ReadonlySet<string> };
  readonly engine: EngineIdentity & { liveThreads(): number };
  readonly threads_max: number;
  /** Process ids of the warden and the agent: aiming at them is an attempt on the monitor. */
  readonly monitors: ReadonlySet<number>;
  /** Monotonic, milliseconds. */
  readonly now: () => number;
}

/** What a refused call gets; everything else EPERM. */
const REFUSAL: Readonly<Record<string, number>> = {
  io_uring_setup: ERRNO.ENOSYS,
  io_uring_enter: ERRNO.ENOSYS,
  io_uring_register: ERRNO.ENOSYS,
  fsync: ERRNO.EINVAL,
  fdatasync: ERRNO.EINVAL,
  getsockname: ERRNO.ENOTSOCK,
  getsockopt: ERRNO.ENOTSOCK,
};
const CONTINUE_TABLE = continueTable(CONTINUED);
const AT_EMPTY_PATH = 0x1000;
const low = (value: bigint | undefined): number => Number((value ?? 0n) & 0xffff_ffffn);

export class Judge {
  readonly #o: JudgeOptions;
  readonly #names: ReadonlyMap<number, string>;
  readonly #paths: PathJudge;
  readonly #decoys: Decoys;
  readonly #threads: ThreadGate;
  #phase: Phase = 'start';
  #knownTimes = new Map<number, number>();
  /** The launcher's one execveat: its descriptor, until it is used. */
  #programFd: number | undefined;
  #executed = false;

  constructor(options: JudgeOptions, programFd: number) {
    this.#o = options;
    this.#names = syscallNames(options.arch);
    this.#programFd = programFd;
    this.#decoys = new Decoys(options.arch, options.now, options.purpose === 'canary');
    this.#threads = new ThreadGate({
      threads_max: options.threads_max,
      live: () => options.engine.liveThreads(),
      now: options.now,
    });
    this.#paths = new PathJudge(options, (file) => {
      if (file.role === 'data') this.advance('data');
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** True from the moment that execveat was let through. */
  get executed(): boolean {
    return this.#executed;
  }

  /** Forward only. */
  advance(phase: Phase): void {
    if (PHASES.indexOf(phase) > PHASES.indexOf(this.#phase)) this.#phase = phase;
  }

  decide(
    { nr, args, tid }: Pick<Notification, 'nr' | 'args' | 'tid'>,
    memory: ReadableMemory,
    maps: () => Buffer,
  ): Decision {
    this.#threads.asked(tid);
    const call = this.#names.get(nr);
    if (call === undefined)
      return fails(ERRNO.ENOSYS, {
        kind: 'other',
        operation: 'unknown call',
        target: `number ${nr}`,
      });
    if (call === 'execveat' && this.#mayExecute(args)) {
      this.#programFd = undefined;
      this.#executed = true;
      return CONTINUE;
    }
    if (call === 'clone' && args[0] === BigInt(CLONE_THREAD_FLAGS)) return this.#newThread(tid);
    if (mayContinue(CONTINUE_TABLE, call, args, this.#phase, this.#o.engine)) return CONTINUE;
    // Until execveat this is our own launcher (glibc counts processors there): refused, but no attempt of the engine.
    if (!this.#executed) return fails(ERRNO.ENOENT);
    const path = this.#paths.decide(call, args, this.#phase, memory, maps);
    if (path !== undefined) return path;
    const known = this.#known(call, args);
    if (known !== undefined) return known;
    if (this.#o.purpose === 'canary' || this.#o.policy === 'strike') {
      const played = this.#decoys.decide(call, args, memory);
      if (played !== undefined) return played;
    }
    const socket = refuseSocketCall(call, args, memory);
    if (socket !== undefined) return socket;
    const attempt: Attempt = { operation: call, ...describe(call, args, memory, this.#o.monitors) };
    return fails(REFUSAL[call] ?? ERRNO.EPERM, attempt);
  }

  #mayExecute(args: readonly bigint[]): boolean {
    return (
      this.#programFd !== undefined &&
      low(args[0]) === this.#programFd &&
      low(args[4]) === AT_EMPTY_PATH
    );
  }

  #newThread(tid: number): Decision {
    if (this.#threads.mayStart(tid)) return CONTINUE;
    const target = `thread ${this.#o.threads_max + 1}`;
    return fails(ERRNO.EAGAIN, { kind: 'limit', operation: 'clone', target });
  }

  #known(call: string, args: readonly bigint[]): Decision | undefined {
    const at = KNOWN_CALLS.findIndex(
      (row) =>
        row.call === call &&
        row.phases.includes(this.#phase) &&
        (row.first === undefined || row.first === low(args[0])),
    );
    const row = KNOWN_CALLS[at];
    if (row === undefined) return undefined;
    const times = (this.#knownTimes.get(at) ?? 0) + 1;
    this.#knownTimes.set(at, times);
    if (times > row.times_max) return undefined;
    return 'value' in row.answer ? returns(row.answer.value) : fails(row.answer.errno);
  }
}
