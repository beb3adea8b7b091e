/**
 * Runs a command behind the filter that container engines put around everything by default: the calls that such a
 * profile leaves out are answered with EPERM (clone3 and whatever is newer than the profile with ENOSYS, so that
 * libraries fall back to older calls), before any filter that the program adds has a word. Which calls: the ones that Docker's documentation names as blocked.
 *
 *   node container-filter.ts /path/of/COMMAND [ARGUMENTS]
 */
import { hostArch, numberOf } from '../../src/linux/arch.ts';
import { ACTION, encode, type Instruction, OP } from '../../src/linux/bpf.ts';
import { addressOf, libc } from '../../src/linux/libc.ts';

const EPERM = 1;
const ENOSYS = 38;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
/** Threads that Node has already started get the filter, too. */
const TSYNC = 1;
const AF_VSOCK = 40;
/** The first call that the profile does not know. */
const NEWER_THAN_THE_PROFILE = 'memfd_secret';
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: namespaces are what a container may not make. */
const CLONE_NEW = 0x7e02_0000;

/** By name: the kernel's own for this machine. */
export const BLOCKED_BY_CONTAINERS: readonly string[] = [
  'acct add_key bpf clock_adjtime clock_settime delete_module finit_module fsconfig fsmount fsopen fspick',
  'get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load',
  'kexec_load keyctl lookup_dcookie mbind mount mount_setattr move_mount move_pages name_to_handle_at',
  'open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv',
  'process_vm_writev ptrace quotactl quotactl_fd reboot request_key set_mempolicy setdomainname sethostname setns',
  'settimeofday swapoff swapon syslog sysfs umount2 unshare userfaultfd ustat vhangup',
].flatMap((line) => line.split(' '));

function program(): Instruction[] {
  const arch = hostArch();
  const load = (offset: number): Instruction => ({ code: OP.load, jt: 0, jf: 0, k: offset });
  const answer = (k: number): Instruction => ({ code: OP.ret, jt: 0, jf: 0, k: k >>> 0 });
  const isCall = (name: string, length: number): Instruction => ({
    code: OP.jumpEqual,
    jt: 0,
    jf: length,
    k: numberOf(arch, name),
  });
  const refused = (errno: number): Instruction => answer(ACTION.errno | errno);
  const NUMBER = 0;
  const FIRST_ARGUMENT = 16;
  return [
    load(NUMBER),
    ...BLOCKED_BY_CONTAINERS.flatMap((name) => [isCall(name, 1), refused(EPERM)]),
    isCall('clone3', 1),
    refused(ENOSYS),
    { code: OP.jumpGreaterEqual, jt: 0, jf: 1, k: numberOf(arch, NEWER_THAN_THE_PROFILE) },
    refused(ENOSYS),
    isCall('socket', 3),
    load(FIRST_ARGUMENT),
    { code: OP.jumpEqual, jt: 0, jf: 1, k: AF_VSOCK },
    refused(EPERM),
    load(NUMBER),
    isCall('clone', 3),
    load(FIRST_ARGUMENT),
    { code: OP.jumpSet, jt: 0, jf: 1, k: CLONE_NEW },
    refused(EPERM),
    answer(ACTION.allow),
  ];
}

function install(): void {
  const c = libc();
  const number = (name: string): number => numberOf(hostArch(), name);
  const filter = encode(program());
  const description = Buffer.alloc(16);
  description.writeUInt16LE(filter.length / 8, 0);
  description.writeBigUInt64LE(addressOf(filter), 8);
  // Root may add a filter without giving up the right to gain rights, as a container engine does.
  if (process.geteuid?.() !== 0) c.syscall(number('prctl'), PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (c.syscall(number('seccomp'), SECCOMP_SET_MODE_FILTER, TSYNC, addressOf(description)) < 0)
    throw new Error(`the filter failed, errno ${c.errno()}`);
  if (c.syscall(number('bpf'), 0, 0, 0) >= 0 || c.errno() !== EPERM) throw new Error('no filter');
}

if (import.meta.main) {
  install();
  const [command = '', ...args] = process.argv.slice(2);
  process.execve?.(command, [command, ...args], process.env);
}
