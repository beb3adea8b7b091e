// Machines made of network namespaces, each with its own file trees, processes and a real sshd (and systemd, where this
// kernel's control groups allow one): for scripts/five-namespaces.mjs and the tests of bootstrap. Root on Linux only.
// Everything is a child of the process that uses this, and the namespaces end with it.
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 20_000;
const BRIDGE = 'switch0';

const sh = (file, ...args) =>
  execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** A switch in the network namespace of this process, which must be one of its own, and the keys of one operator. */
export class Machines {
  /** @param {{folder: string, init: 'systemd' | 'sshd', hidden?: string, shown?: string, subnet?: string, rate?: string}} options */
  constructor({ folder, init, hidden = '', shown = '', subnet = '10.77.0', rate = '' }) {
    this.folder = folder;
    this.init = init;
    this.hidden = hidden;
    /** Seen as /srv/minikeep: a checkout may lie where a machine has folders of its own. */
    this.shown = shown;
    this.subnet = subnet;
    /** Of each machine's cable, both ways, as tc writes it (1gbit); empty: as fast as it goes. */
    this.rate = rate;
    this.machines = new Map();
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    this.key = path.join(folder, 'operator');
    this.knownHosts = path.join(folder, 'known_hosts');
    if (!existsSync(this.key)) sh('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', this.key);
    writeFileSync(this.knownHosts, '', { flag: 'a' });
    sh('ip', 'link', 'set', 'lo', 'up');
    sh('ip', 'link', 'add', BRIDGE, 'type', 'bridge');
    sh('ip', 'address', 'add', `${subnet}.1/24`, 'dev', BRIDGE);
    sh('ip', 'link', 'set', BRIDGE, 'up');
  }

  address(number) {
    return `${this.subnet}.${number + 10}`;
  }

  /** A new machine, or one of before that is switched on again. Its sshd answers when this resolves. */
  async boot(name, number) {
    const dir = path.join(this.folder, name);
    const address = this.address(number);
    if (!existsSync(dir)) {
      mkdirSync(dir, { mode: 0o755 });
      sh('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', path.join(dir, 'host-key'));
      const key = readFileSync(path.join(dir, 'host-key.pub'), 'utf8')
        .split(' ')
        .slice(0, 2)
        .join(' ');
      writeFileSync(this.knownHosts, `${address} ${key}\n`, { flag: 'a' });
    }
    const group =
      this.init === 'systemd'
        ? makeGroup(`minikeep-${randomUUID().slice(0, 8)}-${name}`)
        : undefined;
    const child = spawn(
      'sh',
      [
        '-c',
        // Into its control group first, so that it is the root of the machine's own tree.
        `${group === undefined ? '' : `echo $$ > "${group}/cgroup.procs"; `}exec unshare --mount --pid --net --uts --ipc ${group === undefined ? '' : '--cgroup '}--fork --kill-child --propagation private sh "$0" "$@"`,
        path.join(HERE, 'machine.sh'),
        dir,
        name,
        `${address}/24`,
        this.init,
        this.hidden,
        this.shown,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const machine = { name, number, address, dir, child, group, log: '', ended: false };
    for (const stream of [child.stdout, child.stderr])
      stream
        .setEncoding('utf8')
        .on('data', (text) => (machine.log = (machine.log + text).slice(-20_000)));
    child.once('exit', () => (machine.ended = true));
    this.machines.set(name, machine);
    try {
      await this.#connect(machine);
      await until(
        () => this.ssh(name, 'true').code === 0,
        START_MS_MAX,
        () => machine.ended,
      );
    } catch (cause) {
      throw new Error(`${name} did not start: ${machine.log}`, { cause });
    }
    return machine;
  }

  async #connect(machine) {
    const veth = `mk${machine.number}`;
    await until(
      () => childOf(machine.child.pid) !== undefined,
      START_MS_MAX,
      () => machine.ended,
    );
    machine.pid = childOf(machine.child.pid);
    try {
      // Left by a machine that was switched off a moment ago.
      sh('ip', 'link', 'delete', veth);
    } catch {
      // The usual case.
    }
    sh(
      'ip',
      'link',
      'add',
      veth,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      String(machine.pid),
    );
    sh('ip', 'link', 'set', veth, 'master', BRIDGE, 'up');
    if (this.rate === '') return;
    const shape = ['root', 'tbf', 'rate', this.rate, 'burst', '1mb', 'latency', '50ms'];
    sh('tc', 'qdisc', 'add', 'dev', veth, ...shape);
    const inside = ['nsenter', '-t', String(machine.pid), '-n'];
    sh(...inside, 'tc', 'qdisc', 'add', 'dev', 'eth0', ...shape);
  }

  /** As pulling its plug: every process of it is killed at once. */
  async cut(name) {
    const machine = this.machines.get(name);
    if (machine === undefined) return;
    machine.child.kill('SIGKILL');
    if (machine.pid !== undefined && !machine.ended) {
      try {
        process.kill(machine.pid, 'SIGKILL');
      } catch {
        // It ended with its parent.
      }
    }
    await until(() => machine.ended, STOP_MS_MAX);
    await removeGroup(machine.group);
    this.machines.delete(name);
  }

  async reboot(name) {
    const { number } = this.machines.get(name);
    await this.cut(name);
    return this.boot(name, number);
  }

  /** Runs a command on the machine over ssh. */
  ssh(name, command, input = '') {
    const { address } = this.machines.get(name);
    try {
      const stdout = execFileSync(
        'ssh',
        [
          '-oBatchMode=yes',
          `-oUserKnownHostsFile=${this.knownHosts}`,
          '-oStrictHostKeyChecking=yes',
          '-oConnectTimeout=2',
          '-i',
          this.key,
          `root@${address}`,
          command,
        ],
        { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'], timeout: 300_000 },
      );
      return { code: 0, stdout, stderr: '' };
    } catch (error) {
      return { code: error.status ?? -1, stdout: error.stdout ?? '', stderr: error.stderr ?? '' };
    }
  }

  /** Options that let `ssh` in: for an ssh_config. */
  sshConfig() {
    const file = path.join(this.folder, 'ssh_config');
    writeFileSync(
      file,
      `Host *\n  IdentityFile ${this.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile ${this.knownHosts}\n`,
    );
    return file;
  }

  async close() {
    const names = [...this.machines.keys()];
    for (const name of names) await this.cut(name);
    try {
      sh('ip', 'link', 'delete', BRIDGE);
    } catch {
      // Gone with its namespace.
    }
  }
}

/** The first process inside: what `unshare --fork` started. */
function childOf(pid) {
  try {
    const child = Number(
      readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0],
    );
    // Before its exec it is still in our namespaces.
    return child > 0 &&
      sh('readlink', `/proc/${child}/ns/net`) !== sh('readlink', '/proc/self/ns/net')
      ? child
      : undefined;
  } catch {
    return undefined;
  }
}

/** Where version 2 of control groups is mounted; undefined: nowhere, or not to be written. */
function groupRoot() {
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, , type]) => type === 'cgroup2');
  return mounted?.[1];
}

function makeGroup(name) {
  const folder = path.join(groupRoot() ?? '', name);
  mkdirSync(folder);
  return folder;
}

async function removeGroup(group) {
  if (group === undefined) return;
  for (let i = 0; i < 100; i++) {
    try {
      for (const inner of sh('find', group, '-depth', '-type', 'd').trim().split('\n'))
        rmdirSync(inner);
      return;
    } catch {
      // Its last processes are still ending.
      await pause(50);
    }
  }
}

/** Whether a machine can have systemd as its process 1 here. */
export function systemdPossible() {
  if (!existsSync('/lib/systemd/systemd') || groupRoot() === undefined) return false;
  try {
    rmdirSync(makeGroup(`minikeep-try-${randomUUID().slice(0, 8)}`));
    return true;
  } catch {
    return false;
  }
}

export async function until(test, milliseconds, failed = () => false) {
  const deadline = Date.now() + milliseconds;
  while (!(await test())) {
    if (failed()) throw new Error('it ended');
    if (Date.now() > deadline) throw new Error(`it was not so after ${milliseconds / 1000} s`);
    await pause(50);
  }
}
