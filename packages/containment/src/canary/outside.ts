/**
 * What a filter around minikeep itself refuses. A container's profile answers some calls before the sandbox's own filter
 * is asked: such an attempt is refused, and nobody can report it. To say so of an item, two things must be shown: this
 * process has a filter around it, and the same call, tried outside of the sandbox by an unprivileged process with
 * arguments that can do nothing, is refused with the same errno. Everything else that is not reported stays unseen.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { limited } from './limited.ts';
import { lineSplitter, parseCanaryLine } from './protocol.ts';
import type { Arg, CanaryItem, Step, Way } from './types.ts';
import { type Job, type Observed, OUTSIDE, type WayOutcome } from './wire.ts';

const PROBE_MS_MAX = 20_000;
/** A pointer that points nowhere: a call that looks at it answers EFAULT. */
const NOWHERE = 1;
/** No descriptor and no process has this number: EBADF, ESRCH. */
const NOBODY = 0x7fff_fff0;

/**
 * Calls that container profiles are known to answer themselves, and that an unprivileged process can make with such
 * arguments without any effect beyond itself. The last line changes the process that makes the call: tried last.
 */
const PROBED: readonly string[] = [
  'acct add_key bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen',
  'fspick get_mempolicy init_module io_setup io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp',
  'kexec_file_load kexec_load keyctl landlock_add_rule landlock_create_ruleset lookup_dcookie mbind migrate_pages',
  'modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at open_by_handle_at open_tree',
  'perf_event_open pidfd_getfd pidfd_open pivot_root process_madvise process_mrelease process_vm_readv',
  'process_vm_writev ptrace quotactl quotactl_fd remap_file_pages request_key set_mempolicy',
  'set_mempolicy_home_node setdomainname sethostname settimeofday socket swapoff swapon syslog sysfs umount2 uselib',
  'userfaultfd ustat vhangup _sysctl create_module get_kernel_syms nfsservctl query_module',
  // Newer than some profiles, which answer whatever they don't know.
  'cachestat epoll_pwait2 faccessat2 fchmodat2 futex_requeue futex_waitv futex_wake landlock_restrict_self listmount',
  'lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack memfd_secret mseal openat2 statmount',
  'personality setns clone unshare',
].flatMap((line) => line.split(' '));

/** A harmless call that was refused outside, and the errno of the refusal. */
export type RefusedOutside = readonly [step: Step, errno: number];

/** Errno of each call that was refused outside, by its own name and harmless arguments. */
export class OuterFilter {
  readonly #refused = new Map<string, number>();

  static readonly NONE = new OuterFilter([]);

  constructor(refused: readonly RefusedOutside[]) {
    for (const [step, errno] of refused) this.#refused.set(JSON.stringify(step), errno);
  }

  /** Whether the call at which this way broke off is one that is refused outside in the same manner. */
  refuses(way: Way, outcome: WayOutcome | undefined): boolean {
    const last = outcome?.steps.at(-1);
    const step = last === undefined ? undefined : way.steps[last.step];
    const harmless = step === undefined ? undefined : harmlessStep(step);
    if (outcome?.outcome !== 'refused' || last === undefined || harmless === undefined)
      return false;
    return this.#refused.get(JSON.stringify(harmless)) === last.errno;
  }
}

/** The call with arguments that can do nothing; undefined for a call that is not tried outside. */
export function harmlessStep(step: Step): Step | undefined {
  // Without its magic numbers it does nothing, whoever asks.
  if (step.call === 'reboot' && (step.args ?? []).length === 0)
    return { call: step.call, args: [] };
  if (!PROBED.includes(step.call)) return undefined;
  return { call: step.call, args: (step.args ?? []).flatMap(harmlessArg) };
}

function harmlessArg(arg: Arg): number[] {
  if (typeof arg === 'number') return [arg];
  if (typeof arg === 'string') return [NOBODY];
  return 'sockaddr' in arg ? [NOWHERE, 0] : [NOWHERE];
}

/** Whether this process itself runs behind a filter, so that calls may be refused before the sandbox sees them. */
export function isFiltered(status = readFileSync('/proc/self/status', 'utf8')): boolean {
  return /^Seccomp:\s*2$/m.test(status);
}

/** Tries the calls of a checklist outside. What can't be found out counts as not refused there. */
export async function probeOutside(
  entry: string,
  items: readonly CanaryItem[],
): Promise<RefusedOutside[]> {
  const steps = new Map<string, Step>();
  for (const step of items.flatMap((item) => item.ways.flatMap((way) => way.steps))) {
    const harmless = harmlessStep(step);
    if (harmless !== undefined) steps.set(JSON.stringify(harmless), harmless);
  }
  const order = [...steps.values()].toSorted(
    (a, b) => PROBED.indexOf(a.call) - PROBED.indexOf(b.call),
  );
  const seen = await tryOutside(entry, order);
  return order.flatMap((step, i) => {
    const answer = seen[i];
    return answer?.refused === true ? [[step, answer.errno] as const] : [];
  });
}

/** The first answer to each step; none when the program did not come to its end. */
async function tryOutside(
  entry: string,
  steps: readonly Step[],
): Promise<(Observed | undefined)[]> {
  const child = spawn(process.execPath, [entry, OUTSIDE], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: {},
    cwd: '/',
    timeout: PROBE_MS_MAX,
    killSignal: 'SIGKILL',
  });
  const { promise, resolve } = Promise.withResolvers<readonly WayOutcome[]>();
  const split = lineSplitter((text) => {
    const line = parseCanaryLine(text);
    if (line.event === 'end') resolve(line.ways);
  });
  child.stdout.on('data', (chunk: Buffer) => {
    try {
      split(chunk);
    } catch {
      child.kill('SIGKILL');
    }
  });
  child.stdin.on('error', () => {});
  child.once('error', () => resolve([]));
  child.once('close', () => resolve([]));
  const job: Job = { number: 1, marks: null, ways: steps.map((step) => [step]), facts: {} };
  child.stdin.end(`${JSON.stringify(job)}\n`);
  try {
    const ways = await limited(promise, PROBE_MS_MAX);
    return ways === 'timeout' ? [] : ways.map((way) => way.steps[0]);
  } finally {
    child.kill('SIGKILL');
  }
}
