/**
 * A Mac as far as `service install` sees one: files, users, jobs, power settings and limits that its commands change, in
 * the forms of recorded output. Nobody who wrote this had a Mac; each form names its source.
 */
import type { Machine } from '../src/index.ts';

const ok = (stdout = '') => ({ code: 0, stdout, stderr: '' });
const did = (_: unknown): string => '';
const failed = (code: number, stderr: string) => ({ code, stdout: '', stderr });

export class RecordedMac implements Machine {
  readonly platform = 'darwin';
  root = true;
  readonly files = new Map<string, { content: string; mode: number }>();
  readonly folders = new Map<string, { uid: number; mode: number }>([
    ['/var', { uid: 0, mode: 0o755 }],
    ['/var/db', { uid: 0, mode: 0o755 }],
    ['/var/db/minikeep', { uid: 0, mode: 0o700 }],
    ['/opt', { uid: 0, mode: 0o755 }],
  ]);
  /** The form of `dscl . -list /Users UniqueID`: a name, blanks, a number (macOS 13's own list of services). */
  readonly users = new Map<string, string>([
    ['_www', '70'],
    ['_trustd', '282'],
    ['_taken', '399'],
    ['nobody', '-2'],
    ['root', '0'],
    ['ada', '501'],
  ]);
  readonly groups = new Map<string, string>([
    ['wheel', '0'],
    ['com.apple.access_ssh', '399'],
    ['_also', '398'],
  ]);
  /** ezone.co.uk, "Setting up a power schedule for macOS with pmset". */
  readonly power = new Map<string, string>([
    ['disksleep', '10'],
    ['powernap', '1'],
    ['womp', '1'],
    ['networkoversleep', '0'],
    ['sleep', '10 (sleep prevented by sharingd, powerd, bluetoothd)'],
    ['Sleep On Power Button', '1'],
    ['autorestart', '0'],
    ['displaysleep', '10'],
  ]);
  readonly jobs = new Set<string>();
  readonly firewall = new Set<string>();
  readonly admins = new Set<string>();
  wired = '0';
  filevault = true;
  /** Command lines that were run and may have changed something. */
  readonly ran: string[] = [];
  /** What goes wrong: the command's answer in place of its work. */
  fault: (line: string) => { code: number; stdout: string; stderr: string } | undefined = () =>
    undefined;

  /** All that could have been changed. */
  state(): unknown {
    return structuredClone({
      files: Object.fromEntries(this.files),
      folders: Object.fromEntries(this.folders),
      users: Object.fromEntries(this.users),
      groups: Object.fromEntries(this.groups),
      power: [...this.power].map(([name, value]) => [name, Number.parseInt(value, 10)]),
      jobs: [...this.jobs],
      firewall: [...this.firewall],
      admins: [...this.admins],
      wired: this.wired,
    });
  }

  run(file: string, args: readonly string[]) {
    const line = [file, ...args].join(' ');
    this.ran.push(line);
    return Promise.resolve(this.fault(line) ?? this.#answer(line, args));
  }

  #answer(line: string, args: readonly string[]) {
    if (line === '/usr/bin/pmset -g')
      return ok(
        `System-wide power settings:\nCurrently in use:\n${[...this.power].map(([name, value]) => ` ${name.padEnd(20)} ${value}\n`).join('')}`,
      );
    if (line.startsWith('/usr/bin/pmset -a ')) {
      for (let i = 1; i < args.length; i += 2) this.power.set(args[i] ?? '', args[i + 1] ?? '');
      return ok();
    }
    if (line === '/usr/sbin/sysctl -n iogpu.wired_limit_mb') return ok(`${this.wired}\n`);
    const wired = /^\/usr\/sbin\/sysctl iogpu\.wired_limit_mb=(\d+)$/.exec(line)?.[1];
    if (wired !== undefined) {
      const before = this.wired;
      this.wired = wired;
      return ok(`iogpu.wired_limit_mb: ${before} -> ${wired}\n`);
    }
    if (line === '/usr/bin/fdesetup status')
      return ok(`FileVault is ${this.filevault ? 'On' : 'Off'}.\n`);
    if (line.endsWith('socketfilterfw --getglobalstate'))
      return ok('Firewall is enabled. (State = 1)\n');
    if (line.includes('socketfilterfw --add ')) return ok(did(this.firewall.add(args[1] ?? '')));
    if (line.includes('socketfilterfw --remove '))
      return ok(did(this.firewall.delete(args[1] ?? '')));
    if (line.includes('socketfilterfw --unblockapp ')) return ok();
    if (line.startsWith('/usr/bin/plutil -lint '))
      return this.files.has(args[1] ?? '') ? ok(`${args[1]}: OK\n`) : failed(1, 'no such file');
    if (line.startsWith('/usr/bin/install -d ')) {
      this.folders.set(args.at(-1) ?? '', {
        uid: Number(this.users.get('_minikeep')),
        mode: 0o750,
      });
      return ok();
    }
    if (line.startsWith('/bin/rm -rf ')) return ok(did(this.folders.delete(args[1] ?? '')));
    if (line.includes('chown -R -h ')) return this.#chown(args[2] ?? '', args[3] ?? '');
    if (line.includes('dseditgroup -o edit -a')) return ok(did(this.admins.add(args[3] ?? '')));
    if (line.includes('dseditgroup -o edit -d')) return ok(did(this.admins.delete(args[3] ?? '')));
    if (line.startsWith('/usr/bin/id ')) return this.#id(args);
    if (line.startsWith('/usr/bin/dscl ')) return this.#dscl(args);
    if (line.startsWith('/bin/launchctl ')) return this.#launchctl(args);
    return { code: null, stdout: '', stderr: `spawn ${args[0]} ENOENT` };
  }

  #chown(owner: string, path: string) {
    const [user = ''] = owner.split(':');
    const uid = /^\d+$/.test(user) ? Number(user) : Number(this.users.get(user));
    const folder = this.folders.get(path);
    if (folder === undefined || Number.isNaN(uid))
      return failed(1, `chown: ${owner}: Invalid argument`);
    folder.uid = uid;
    return ok();
  }

  #id(args: readonly string[]) {
    const [flag, who = ''] = args;
    if (flag === '-un') {
      const name = [...this.users].find(([, id]) => id === who)?.[0];
      return name === undefined ? failed(1, `id: ${who}: no such user`) : ok(`${name}\n`);
    }
    const id = this.users.get(who);
    if (id === undefined || id === '') return failed(1, `id: ${who}: no such user`);
    return ok(flag === '-gn' ? `${who}\n` : `${id}\n`);
  }

  #dscl(args: readonly string[]) {
    const [, verb, record = '', key, value = ''] = args;
    const [, kind, name = ''] = record.split('/');
    const table = kind === 'Users' ? this.users : this.groups;
    if (verb === '-list')
      return ok([...table].map(([who, id]) => `${who.padEnd(24)} ${id}\n`).join(''));
    // eDSRecordNotFound, as dscl prints it.
    if (verb === '-delete')
      return table.delete(name)
        ? ok()
        : failed(56, '<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)');
    if (key === undefined) table.set(name, '');
    if (key === (kind === 'Users' ? 'UniqueID' : 'PrimaryGroupID')) table.set(name, value);
    return ok();
  }

  /** github.com/boxen/puppet-boxen/issues/104: `launchctl print system/dev.mysql`. */
  #launchctl(args: readonly string[]) {
    const [verb, target = '', path = ''] = args;
    if (verb === 'enable') return ok();
    if (verb === 'bootstrap') {
      const label = path.split('/').at(-1)?.replace('.plist', '') ?? '';
      if (!this.files.has(path) || this.jobs.has(label))
        return failed(5, 'Bootstrap failed: 5: Input/output error');
      this.jobs.add(label);
      return ok();
    }
    const label = target.replace('system/', '');
    if (!this.jobs.has(label))
      return failed(
        verb === 'bootout' ? 3 : 113,
        verb === 'bootout'
          ? 'Boot-out failed: 3: No such process'
          : `Could not find service "${label}" in domain for system`,
      );
    if (verb === 'bootout') {
      this.jobs.delete(label);
      return ok();
    }
    return ok(
      `${label} = {\n    active count = 1\n    path = /Library/LaunchDaemons/${label}.plist\n    state = ${label === 'minikeep.machine' ? 'waiting' : 'running'}\n\n    domain = com.apple.xpc.launchd.domain.system\n    minimum runtime = 10\n    exit timeout = 1\n    runs = 2\n    pid = 24784\n    last exit code = 0\n}\n`,
    );
  }

  read(file: string) {
    return this.files.get(file)?.content;
  }
  list() {
    return [];
  }
  stat(file: string) {
    const folder = this.folders.get(file);
    if (folder !== undefined) return { ...folder, directory: true };
    const found = this.files.get(file);
    if (found !== undefined) return { uid: 0, mode: found.mode, directory: false };
    return file.startsWith('/usr/') || file.startsWith('/bin/')
      ? { uid: 0, mode: 0o755, directory: false }
      : undefined;
  }
  write(file: string, content: string, mode: number) {
    this.files.set(file, { content, mode });
  }
  remove(file: string) {
    this.files.delete(file);
  }
  sleep() {
    return Promise.resolve();
  }
}
