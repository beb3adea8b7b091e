/**
 * What an engine may ask of the kernel, as data. The source of every row is the allow-list of WARDEN.md,
 * found by attacking it: change a row together with its test.
 *
 * One filter for the engine's whole life: FILTER_ALLOW passes without a question, FILTER_ERRNO is answered by the
 * kernel, everything else becomes a notification. Of those, CONTINUED ones go on as long as the phase permits,
 * and only when registers alone decide: what a pointer points to could change after the look.
 */

/**
 * start: Node and the engine's libraries load. data: from the first byte of a model on: nothing executable can be
 * mapped any more. sealed: only what computing needs.
 */
export const PHASES = ['start', 'data', 'sealed'] as const;
export type Phase = (typeof PHASES)[number];

/** A test of one argument's low 32 bits (the kernel reads these arguments as 32 bits), except where it says both halves. */
export type Check =
  | { readonly arg: number; readonly op: 'eq'; readonly value: number }
  /** None of these bits. */
  | { readonly arg: number; readonly op: 'clear'; readonly value: number }
  /** One of these bits at least. */
  | { readonly arg: number; readonly op: 'any'; readonly value: number }
  /** (argument & mask) = value. */
  | { readonly arg: number; readonly op: 'masked'; readonly mask: number; readonly value: number }
  /** Both halves are zero: a null pointer. */
  | { readonly arg: number; readonly op: 'null' }
  /** Zero or the engine's own process id. Only for CONTINUED: the filter is made before it is known. */
  | { readonly arg: number; readonly op: 'self' }
  /** Zero or a thread of the engine. Only for CONTINUED. */
  | { readonly arg: number; readonly op: 'own_thread' };

/** All checks must hold; an empty list always does. */
export type Alternative = readonly Check[];

export interface AllowRule {
  readonly call: string;
  readonly alternatives: readonly Alternative[];
}

/** A call that is stopped and asked about where all else passes: always, `unless` an alternative holds, or only `when` one does. */
export interface WatchRule {
  readonly call: string;
  readonly unless?: readonly Alternative[];
  readonly when?: readonly Alternative[];
}

export interface ContinueRule extends AllowRule {
  /** The last phase in which it holds. */
  readonly until: Phase;
}

const eq = (arg: number, value: number): Check => ({ arg, op: 'eq', value });
const clear = (arg: number, value: number): Check => ({ arg, op: 'clear', value });
const masked = (arg: number, mask: number, value: number): Check => ({
  arg,
  op: 'masked',
  mask,
  value,
});
const isNull = (arg: number): Check => ({ arg, op: 'null' });
const self = (arg: number): Check => ({ arg, op: 'self' });
const oneOf = (arg: number, values: readonly number[]): Alternative[] =>
  values.map((v) => [eq(arg, v)]);
const ALWAYS: readonly Alternative[] = [[]];
const allow = (call: string, alternatives: readonly Alternative[] = ALWAYS): AllowRule => ({
  call,
  alternatives,
});

const PROT_EXEC = 4;
const MAP_TYPE = 0x0f;
const MAP_PRIVATE = 2;
const MAP_SHARED = 1;
const MAP_ANONYMOUS = 0x20;
/** All of futex's operation but FUTEX_PRIVATE_FLAG, and also but FUTEX_CLOCK_REALTIME. */
const FUTEX_COMMAND = 0xffff_ff7f;
const FUTEX_COMMAND_ANY_CLOCK = 0xffff_fe7f;
/**
 * WAKE WAIT WAIT_BITSET WAKE_BITSET REQUEUE CMP_REQUEUE WAKE_OP. Not the ones with priority inheritance: their lock
 * word names a thread of any process, and the answer tells whether it exists.
 */
const FUTEX_COMMANDS = [1, 0, 9, 10, 3, 4, 5];
/** What glibc's pthread_create asks, exactly: a thread, never a process or a namespace. */
export const CLONE_THREAD_FLAGS = 0x3d0f00;
/** -1 is V8's probe of what madvise knows. */
const MADVISE = [4, 8, 0, 3, 10, 14, 15, 16, 17, 18, 19, 0xffff_ffff];
/** Clocks of the machine, never of other processes (negative) or TAI (11). */
const CLOCKS = [1, 0, 4, 6, 3, 2, 7, 5];
export const CRASH_SIGNALS = [4, 5, 7, 8, 11] as const;
export const SIGABRT = 6;

/** Passed by the kernel itself, most frequent first: the filter is linear. */
export const FILTER_ALLOW: readonly AllowRule[] = [
  // ggml asks for its AMX permission 213 times a step.
  allow('arch_prctl', oneOf(0, [0x1021, 0x1022, 0x1023])),
  // A real-time deadline would read the clock; glibc sets the flag with a null time-out all the time.
  allow('futex', [
    ...FUTEX_COMMANDS.map((command) => [masked(1, FUTEX_COMMAND, command)]),
    ...FUTEX_COMMANDS.map((command) => [masked(1, FUTEX_COMMAND_ANY_CLOCK, command), isNull(3)]),
  ]),
  allow('read'),
  allow('write'),
  allow('sched_yield'),
  allow('clock_gettime', oneOf(0, CLOCKS)),
  allow('madvise', oneOf(2, MADVISE)),
  allow('mmap', [
    [clear(2, PROT_EXEC), { arg: 3, op: 'any', value: MAP_ANONYMOUS }],
    [clear(2, PROT_EXEC), masked(3, MAP_TYPE, MAP_PRIVATE)],
  ]),
  allow('munmap'),
  allow('mprotect', [[clear(2, PROT_EXEC)]]),
  ...['brk', 'mremap', 'epoll_wait', 'epoll_pwait', 'rt_sigprocmask', 'rt_sigreturn', 'close'].map(
    (c) => allow(c),
  ),
  ...['readv', 'writev', 'poll', 'ppoll', 'getpid', 'gettid', 'getrandom', 'getcpu'].map((c) =>
    allow(c),
  ),
  ...['restart_syscall', 'nanosleep', 'membarrier', 'exit', 'exit_group'].map((c) => allow(c)),
  allow('clock_nanosleep', [[eq(0, 1)], [eq(0, 0), eq(1, 0)]]),
  allow('clock_getres', oneOf(0, CLOCKS)),
  allow('getrusage', oneOf(0, [0, 1])),
  // A thread registers its own memory with the kernel; nothing leaves and nothing is learnt.
  allow('set_robust_list'),
  allow('rseq'),
];

export interface ErrnoRule {
  readonly call: string;
  readonly errno: number;
  readonly reason: string;
}

/**
 * Answered by the kernel without a record: only what honest code asks all the time. A refused clone3 is no sign of an
 * attempt: glibc asks it before each thread, whatever it was answered before. Nobody could tell what it asks for
 * either, since its flags lie in memory that another thread may change; so it is never let through, and a record of
 * it would say nothing.
 */
export const FILTER_ERRNO: readonly ErrnoRule[] = [
  { call: 'clone3', errno: 38, reason: 'glibc falls back to clone, whose flags are in a register' },
];

const during = (
  until: Phase,
  call: string,
  alternatives: readonly Alternative[] = ALWAYS,
): ContinueRule => ({
  call,
  alternatives,
  until,
});

/** Let go on by the warden while the phase permits. */
export const CONTINUED: readonly ContinueRule[] = [
  // Code is mapped before a model is there, or never.
  during('start', 'mmap', [[clear(2, PROT_EXEC)], [masked(3, MAP_TYPE, MAP_PRIVATE)]]),
  during('start', 'mprotect'),
  ...['pkey_mprotect', 'pkey_alloc', 'pkey_free'].map((c) => during('start', c)),
  // The names of threads and mappings, and making the process undumpable.
  during('start', 'prctl', [...oneOf(0, [15, 16, 0x5356_4d41]), [eq(0, 4), eq(1, 0)]]),
  // TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX
  during('start', 'ioctl', oneOf(1, [0x5401, 0x541b, 0x5421, 0x5450, 0x5451])),
  during('start', 'rt_sigaction'),
  during('start', 'arch_prctl', oneOf(0, [0x1002, 0x1003, 0x3001, 0x5001])),
  // The model, mapped read-only.
  during('data', 'mmap', [[eq(2, 1), masked(3, MAP_TYPE, MAP_SHARED)]]),
  ...['fstat', 'lseek', 'pread64', 'getdents64', 'fadvise64'].map((c) => during('data', c)),
  ...['dup', 'dup2', 'dup3', 'pipe2', 'eventfd2', 'epoll_create1'].map((c) => during('data', c)),
  during(
    'data',
    'rt_sigaction',
    Array.from({ length: 64 }, (_, i) => i + 1)
      .filter((signal) => !(CRASH_SIGNALS as readonly number[]).includes(signal))
      .map((signal) => [eq(0, signal)]),
  ),
  ...['sigaltstack', 'set_tid_address', 'sysinfo', 'uname', 'getcwd'].map((c) => during('data', c)),
  // Node asks once; whose rights are asked for lies in memory, where it could be any process.
  during('start', 'capget'),
  ...['getuid', 'geteuid', 'getgid', 'getegid', 'getppid'].map((c) => during('data', c)),
  during('data', 'sched_getaffinity', [[{ arg: 0, op: 'own_thread' }]]),
  during('data', 'prlimit64', [[self(0), isNull(2)]]),
  during('data', 'getrlimit'),
  // GETFD SETFD GETFL DUPFD DUPFD_CLOEXEC, and SETFL without O_ASYNC: with it, and an owner, a pipe sends signals.
  during('data', 'fcntl', [...oneOf(1, [1, 2, 3, 0, 1030]), [eq(1, 4), clear(2, 0x2000)]]),
  during('sealed', 'epoll_ctl'),
  during('sealed', 'sched_getparam', [[{ arg: 0, op: 'own_thread' }]]),
  during('sealed', 'sched_getscheduler', [[{ arg: 0, op: 'own_thread' }]]),
  // abort(): the process ends itself. Any other signal to itself, and every signal to others, is an attempt.
  during('sealed', 'tgkill', [[self(0), eq(2, SIGABRT)]]),
  during('start', 'tgkill', [[self(0)]]),
];
