/**
 * What a guarded process is asked about, as data; all else passes without a question. Reading and writing are not on the
 * list: what is connected, is connected to a peer.
 */
import type { Alternative, Check, ErrnoRule, WatchRule } from '../rules.ts';

const eq = (arg: number, value: number): Check => ({ arg, op: 'eq', value: value >>> 0 });
const masked = (arg: number, mask: number, value: number): Check => ({
  arg,
  op: 'masked',
  mask,
  value,
});
const isNull = (arg: number): Check => ({ arg, op: 'null' });
const oneOf = (arg: number, values: readonly number[]): Alternative[] =>
  values.map((value) => [eq(arg, value)]);

export const AF = { unspec: 0, unix: 1, inet: 2, inet6: 10, netlink: 16 } as const;
export const SOCK = { stream: 1, datagram: 2 } as const;
/** SOCK_NONBLOCK and SOCK_CLOEXEC ride above the type. */
const TYPE = 0xf;
const TCP = 6;
const UDP = 17;

const internet = (family: number): Alternative[] => [
  ...[0, TCP].map((protocol) => [eq(0, family), masked(1, TYPE, SOCK.stream), eq(2, protocol)]),
  ...[0, UDP].map((protocol) => [eq(0, family), masked(1, TYPE, SOCK.datagram), eq(2, protocol)]),
];

/** NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET */
const CLONE_NEW = 0x7e02_0000;
export const PR_SET_PDEATHSIG = 1;
const F_SETOWN = 8;
const F_SETSIG = 10;
const F_SETOWN_EX = 15;
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

/** `monitors`: the guard and who started it, which the process may not end. */
export const watched = (monitors: readonly number[]): readonly WatchRule[] => [
  // A send without an address goes where the socket is connected to. With one it may be a connection of its own.
  { call: 'sendto', unless: [[isNull(4)]] },
  { call: 'fcntl', when: oneOf(1, [F_SETOWN, F_SETSIG, F_SETOWN_EX]) },
  { call: 'ioctl', when: oneOf(1, [TIOCSTI, TIOCLINUX]) },
  // Registers don't show whether these have an address.
  { call: 'sendmsg' },
  { call: 'sendmmsg' },
  {
    call: 'socket',
    unless: [
      ...internet(AF.inet),
      ...internet(AF.inet6),
      [eq(0, AF.unix)],
      [eq(0, AF.netlink), eq(2, 0)],
    ],
  },
  { call: 'socketpair', unless: [[eq(0, AF.unix)]] },
  { call: 'connect' },
  { call: 'bind' },
  { call: 'listen' },
  { call: 'clone', when: [[{ arg: 0, op: 'any', value: CLONE_NEW }]] },
  { call: 'prctl', when: [[eq(0, PR_SET_PDEATHSIG)]] },
  // Also its own group, which the guard is in, and everyone.
  { call: 'kill', when: oneOf(0, [...monitors.flatMap((pid) => [pid, -pid]), 0, -1]) },
  { call: 'tgkill', when: oneOf(0, monitors) },
  { call: 'tkill', when: oneOf(0, monitors) },
  { call: 'rt_sigqueueinfo', when: oneOf(0, [...monitors, 0, -1]) },
  { call: 'rt_tgsigqueueinfo', when: oneOf(0, monitors) },
  { call: 'pidfd_send_signal' },
  { call: 'prlimit64', unless: [[eq(0, 0)], [isNull(2)]] },
  // Other processes, of which some are not held.
  ...always('ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp'),
  // Rings ask the kernel for sockets without a call that anybody could see.
  ...always('io_uring_enter io_uring_register'),
  // The kernel lets root's helpers ask name servers for a key.
  ...always('add_key request_key keyctl'),
  ...always('bpf perf_event_open userfaultfd open_by_handle_at fanotify_init'),
  ...always('unshare setns mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig'),
  ...always('fsmount fspick mount_setattr init_module finit_module delete_module'),
  ...always('kexec_load kexec_file_load iopl ioperm modify_ldt swapon acct'),
];

function always(calls: string): WatchRule[] {
  return calls.split(' ').map((call) => ({ call }));
}

export const ANSWERED: readonly ErrnoRule[] = [
  { call: 'clone3', errno: 38, reason: 'glibc falls back to clone, whose flags are in a register' },
  { call: 'io_uring_setup', errno: 38, reason: 'Node asks at each start, and goes on without' },
];
