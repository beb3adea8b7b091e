/**
 * Starts the guarded process. One thread of the guard gives up its rights and takes the filter; the process is started
 * from that thread and has what the thread has left. The guard's other threads keep theirs: from there wardens are
 * started, which need a filter with a listener of their own, and no process under one can have a second.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { numberOf, type Arch } from '../arch.ts';
import { compileWatch, encode } from '../bpf.ts';
import { landlockAbi } from '../landlock.ts';
import { addressOf, libc } from '../libc.ts';
import { ANSWERED, watched } from './rules.ts';

const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
const CAPABILITY_LAST = 63;
const CAPABILITY_VERSION_3 = 0x2008_0522;
/** CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER NET_BIND_SERVICE: root's files, and ports below 1024. */
const CAPABILITIES_KEPT = [0, 1, 2, 3, 10].reduce((bits, one) => bits | (1 << one), 0);
const SECCOMP_SET_MODE_FILTER = 1;
/** NEW_LISTENER and WAIT_KILLABLE_RECV: without the second, a signal cancels a question. */
const FILTER_FLAGS = 8 | 32;
/** Landlock's scopes: signals and abstract sockets of processes outside. From ABI 6 on. */
const SCOPES_FROM_ABI = 6;
const SCOPES = 3n;
/** Making a block device: what nobody here does. A set of rules has to be about something. */
const FS_MAKE_BLOCK = 1n << 11n;
/** Linking and renaming from folder to folder: refused by any set of rules that does not allow it. Since ABI 2. */
const FS_REFER = 1n << 13n;
const REFER_FROM_ABI = 2;
const RULE_PATH_BENEATH = 1;
const O_PATH = 0o10000000;
/** Larger than glibc's own structs. */
const ACTIONS_BYTES = 256;
const ATTRIBUTES_BYTES = 1024;
const SIGSET_BYTES = 128;
const SPAWN_SETSIGDEF = 4;
const SPAWN_SETSIGMASK = 8;

/** A step that this machine does not let us do. */
export class GuardUnavailable extends Error {
  readonly step: string;
  constructor(step: string, errno: number) {
    super(`${step} was refused (errno ${errno})`);
    this.step = step;
  }
}

export interface ChildSpec {
  readonly program: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Descriptor there → descriptor here. */
  readonly descriptors: ReadonlyMap<number, number>;
  /** Processes that it may not end. */
  readonly monitors: readonly number[];
}

export interface GuardedChild {
  readonly pid: number;
  readonly listener: number;
  /** 0: none in this kernel. */
  readonly landlockAbi: number;
}

const held: Buffer[] = [];
/** Kept for the guard's life: the other thread's calls point to it. */
function pointerTo(memory: Buffer): bigint {
  held.push(memory);
  return addressOf(memory);
}

function stringArray(strings: readonly string[]): Buffer {
  const array = Buffer.alloc(8 * (strings.length + 1));
  strings.forEach((text, i) => {
    array.writeBigUInt64LE(pointerTo(Buffer.from(`${text}\0`, 'utf8')), 8 * i);
  });
  held.push(array);
  return array;
}

/** The pool's only thread, which never comes back from what is done to it. */
class Mould {
  readonly #arch: Arch;

  constructor(arch: Arch) {
    this.#arch = arch;
  }

  async call(step: string, name: string, ...args: (number | bigint)[]): Promise<number> {
    const result = await libc().syscallOnPool(numberOf(this.#arch, name), ...args);
    if (result < 0) throw new GuardUnavailable(step, await libc().errnoOnPool());
    return result;
  }

  async tried(name: string, ...args: (number | bigint)[]): Promise<boolean> {
    return (await libc().syscallOnPool(numberOf(this.#arch, name), ...args)) >= 0;
  }

  async dropRights(isRoot: boolean): Promise<void> {
    await this.call('no_new_privs', 'prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    await this.tried('prctl', PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (!isRoot) return;
    for (let one = 0; one <= CAPABILITY_LAST; one++) {
      const kept = one < 32 && (CAPABILITIES_KEPT & (1 << one)) !== 0;
      // EINVAL: past the kernel's last one. EPERM: a container took the right to drop, and the set with it.
      if (!kept && !(await this.tried('prctl', PR_CAPBSET_DROP, one, 0, 0, 0))) break;
    }
    const header = Buffer.alloc(8);
    header.writeUInt32LE(CAPABILITY_VERSION_3, 0);
    const sets = Buffer.alloc(24);
    await this.call('capget', 'capget', pointerTo(header), pointerTo(sets));
    const left = (sets.readUInt32LE(4) & CAPABILITIES_KEPT) >>> 0;
    const kept = Buffer.alloc(24);
    kept.writeUInt32LE(left, 0);
    kept.writeUInt32LE(left, 4);
    await this.call('capset', 'capset', pointerTo(header), pointerTo(kept));
  }

  /** Memory and signals of processes outside are closed; files stay as they are. */
  async landlock(): Promise<number> {
    const abi = landlockAbi(this.#arch);
    if (abi < REFER_FROM_ABI) return 0;
    const attributes = Buffer.alloc(24);
    attributes.writeBigUInt64LE(FS_MAKE_BLOCK | FS_REFER, 0);
    if (abi >= SCOPES_FROM_ABI) attributes.writeBigUInt64LE(SCOPES, 16);
    const size = abi >= SCOPES_FROM_ABI ? 24 : 8;
    const ruleset = libc().syscall(
      numberOf(this.#arch, 'landlock_create_ruleset'),
      pointerTo(attributes),
      size,
      0,
    );
    if (ruleset < 0) return 0;
    const shut =
      this.#allowLinks(ruleset) && (await this.tried('landlock_restrict_self', ruleset, 0));
    libc().syscall(numberOf(this.#arch, 'close'), ruleset);
    return shut ? abi : 0;
  }

  #allowLinks(ruleset: number): boolean {
    const root = openSync('/', O_PATH);
    const rule = Buffer.alloc(12);
    rule.writeBigUInt64LE(FS_REFER, 0);
    rule.writeInt32LE(root, 8);
    const add = numberOf(this.#arch, 'landlock_add_rule');
    const added = libc().syscall(add, ruleset, RULE_PATH_BENEATH, pointerTo(rule), 0);
    closeSync(root);
    return added === 0;
  }

  filter(monitors: readonly number[]): Promise<number> {
    const program = encode(compileWatch(this.#arch, watched(monitors), ANSWERED));
    const description = Buffer.alloc(16);
    description.writeUInt16LE(program.length / 8, 0);
    description.writeBigUInt64LE(pointerTo(program), 8);
    return this.call(
      'the system call filter',
      'seccomp',
      SECCOMP_SET_MODE_FILTER,
      FILTER_FLAGS,
      pointerTo(description),
    );
  }
}

/** posix_spawn on the pool's thread: the C library's own way from one program to another, in no code of ours. */
async function spawnFromPool({ program, argv, env, descriptors }: ChildSpec): Promise<number> {
  const c = koffi.load('libc.so.6');
  const actions = Buffer.alloc(ACTIONS_BYTES);
  const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
  const everySignal = Buffer.alloc(SIGSET_BYTES, 0xff);
  const noSignal = Buffer.alloc(SIGSET_BYTES);
  const pid = Buffer.alloc(4);
  held.push(actions, attributes, everySignal, noSignal, pid);
  const must = (what: string, errno: number): void => {
    if (errno !== 0) throw new GuardUnavailable(what, errno);
  };
  must('actions', c.func('int posix_spawn_file_actions_init(void*)')(actions) as number);
  const dup2 = c.func('int posix_spawn_file_actions_adddup2(void*, int, int)');
  for (const [there, here] of descriptors) must('dup2', dup2(actions, here, there) as number);
  must('attributes', c.func('int posix_spawnattr_init(void*)')(attributes) as number);
  c.func('int posix_spawnattr_setsigdefault(void*, void*)')(attributes, everySignal);
  c.func('int posix_spawnattr_setsigmask(void*, void*)')(attributes, noSignal);
  const flags = SPAWN_SETSIGDEF | SPAWN_SETSIGMASK;
  must('flags', c.func('int posix_spawnattr_setflags(void*, short)')(attributes, flags) as number);
  const args = stringArray(argv);
  const environment = stringArray(Object.entries(env).map(([name, value]) => `${name}=${value}`));
  const spawn = c.func('int posix_spawn(void*, str, void*, void*, void*, void*)');
  const errno = await new Promise<number>((resolve, reject) => {
    spawn.async(
      pid,
      program,
      actions,
      attributes,
      args,
      environment,
      (error: Error | null, result: number) => (error === null ? resolve(result) : reject(error)),
    );
  });
  must('the start of the program', errno);
  return pid.readInt32LE(0);
}

/** Throws `GuardUnavailable` where the kernel, or a container around us, does not let us. */
export async function startGuarded(arch: Arch, spec: ChildSpec): Promise<GuardedChild> {
  const mould = new Mould(arch);
  await mould.dropRights(process.geteuid?.() === 0);
  const landlockAbi = await mould.landlock();
  const listener = await mould.filter(spec.monitors);
  return { pid: await spawnFromPool(spec), listener, landlockAbi };
}
