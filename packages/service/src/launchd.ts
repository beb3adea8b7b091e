/**
 * A node under launchd: its job, the job of root's that sets at each boot what macOS forgets, and what a Mac that nobody
 * sits at needs. Nobody who wrote this had a Mac: every step is looked at after it was made, and all is undone when one
 * did not do what it should.
 */
import { MinikeepError } from '@minikeep/protocol';
import { run, undoBy, type Argv, type Change, type Undo } from './change.ts';
import type { Machine } from './machine.ts';
import {
  FILES_MAX,
  HELPER_LABEL,
  LABEL,
  MACOS_USER,
  STOP_SECONDS,
  type ServiceOptions,
} from './options.ts';
import { giveHome, ownerOf, type Owner } from './owner.ts';
import { plistText } from './plist.ts';
import type { Planned } from './systemd.ts';

export const plistFile = (label: string): string => `/Library/LaunchDaemons/${label}.plist`;
const LOGS = '/Library/Logs/minikeep';
const LAUNCHCTL = '/bin/launchctl';
const PMSET = '/usr/bin/pmset';
const SYSCTL = '/usr/sbin/sysctl';
const DSCL = '/usr/bin/dscl';
const FIREWALL = '/usr/libexec/ApplicationFirewall/socketfilterfw';
/** "No such process", "Could not find service". */
const NOT_LOADED = [3, 113];
/** "DS Error: -14136 (eDSRecordNotFound)" ends with 56. */
const NO_RECORD = [56];

/** No sleep, no sleeping disks, on again after a power cut, awake for the network; darkness would only interrupt. */
const POWER: Readonly<Record<string, number>> = {
  sleep: 0,
  disksleep: 0,
  autorestart: 1,
  womp: 1,
  powernap: 0,
};

/** The ids of macOS's own services; people begin at 501. */
const ID_FIRST = 300;
const ID_LAST = 399;

export function nodePlist({ home, program }: ServiceOptions, user: string, group: string): string {
  return plistText({
    Label: LABEL,
    ProgramArguments: [program, 'start', '--home', home, '--verbose'],
    UserName: user,
    GroupName: group,
    WorkingDirectory: '/',
    RunAtLoad: true,
    KeepAlive: true,
    ThrottleInterval: 10,
    ExitTimeOut: STOP_SECONDS,
    // Else macOS slows down what nobody looks at.
    ProcessType: 'Interactive',
    Umask: 0o077,
    SoftResourceLimits: { NumberOfFiles: FILES_MAX, Core: 0 },
    HardResourceLimits: { NumberOfFiles: FILES_MAX, Core: 0 },
    StandardOutPath: `${LOGS}/node.log`,
    StandardErrorPath: `${LOGS}/node.log`,
  });
}

/** Root's part: one line that macOS's own shell reads at boot, no program of ours. */
export function helperPlist(power: readonly string[], wiredMebibytes: number | undefined): string {
  const lines = [
    ...(power.length === 0 ? [] : [[PMSET, '-a', ...power].join(' ')]),
    ...(wiredMebibytes === undefined ? [] : [`${SYSCTL} iogpu.wired_limit_mb=${wiredMebibytes}`]),
  ];
  return plistText({
    Label: HELPER_LABEL,
    ProgramArguments: ['/bin/sh', '-c', lines.join('; ')],
    RunAtLoad: true,
    LaunchOnlyOnce: true,
    StandardOutPath: '/var/log/minikeep-machine.log',
    StandardErrorPath: '/var/log/minikeep-machine.log',
  });
}

/** Reads the machine, changes nothing. Throws `service.*`. */
export async function planLaunchd(machine: Machine, options: ServiceOptions): Promise<Planned> {
  const owner = await ownerOf(machine, options, MACOS_USER);
  const byHand: string[] = [];
  const changes: Change[] = [
    ...(owner.create ? await makeUser(machine, options, owner) : []),
    ...giveHome(machine, options, owner),
  ];
  if (options.readLog)
    changes.push(
      run(
        `let ${owner.user} read the system's log, where refused attempts are seen`,
        ['/usr/sbin/dseditgroup', '-o', 'edit', '-a', owner.user, '-t', 'user', 'admin'],
        undoBy(
          `${owner.user} in the group admin`,
          ['/usr/sbin/dseditgroup', '-o', 'edit', '-d', owner.user, '-t', 'user', 'admin'],
          [64, 67],
        ),
      ),
    );
  const power = options.keepPower ? { changes: [], settings: [] } : await planPower(machine);
  changes.push(...power.changes);
  if (options.wiredLimitMebibytes !== undefined)
    changes.push(...(await planWiredLimit(machine, options.wiredLimitMebibytes)));
  if (power.settings.length > 0 || options.wiredLimitMebibytes !== undefined)
    changes.push(
      ...(await job(
        machine,
        HELPER_LABEL,
        helperPlist(power.settings, options.wiredLimitMebibytes),
        {
          what: 'root’s part: sets at each boot what macOS forgets',
          expect: /last exit code = 0|state = (running|exited|not running)/,
        },
      )),
    );
  changes.push(...(await planFirewall(machine, options.node)));
  changes.push(
    run(
      'a folder for the log',
      ['/usr/bin/install', '-d', '-o', owner.user, '-g', owner.group, '-m', '0750', LOGS],
      undoBy('a folder for the log', ['/bin/rm', '-rf', LOGS]),
    ),
    ...(await job(machine, LABEL, nodePlist(options, owner.user, owner.group), {
      what: 'the node starts at boot, as its own user, and again when it ends',
      expect: /^\s*state = running$/m,
      log: ['/usr/bin/tail', '-n', '15', `${LOGS}/node.log`],
    })),
  );
  const vault = await machine.run('/usr/bin/fdesetup', ['status']);
  if (/FileVault is On/.test(vault.stdout))
    byHand.push(
      'FileVault is on: after a power cut this Mac waits for a password before anything starts. If the room is safe enough: sudo fdesetup disable',
    );
  return { user: owner.user, changes, byHand };
}

async function job(
  machine: Machine,
  label: string,
  content: string,
  { what, expect, log }: { what: string; expect: RegExp; log?: Argv },
): Promise<Change[]> {
  const path = plistFile(label);
  const loaded = (await machine.run(LAUNCHCTL, ['print', `system/${label}`])).code === 0;
  return [
    { kind: 'file', what, path, content, mode: 0o644 },
    run(`see that ${path} can be read`, ['/usr/bin/plutil', '-lint', path]),
    ...(loaded
      ? [run(`end the job ${label} of before`, [LAUNCHCTL, 'bootout', `system/${label}`])]
      : []),
    // An earlier `launchctl disable` would outlive it.
    run(`allow the job ${label}`, [LAUNCHCTL, 'enable', `system/${label}`]),
    run(
      `start the job ${label}`,
      [LAUNCHCTL, 'bootstrap', 'system', path],
      undoBy(`start the job ${label}`, [LAUNCHCTL, 'bootout', `system/${label}`], NOT_LOADED),
    ),
    {
      kind: 'check',
      what: `the job ${label} is there`,
      argv: [LAUNCHCTL, 'print', `system/${label}`],
      expect,
      ...(log === undefined ? {} : { log }),
    },
  ];
}

async function makeUser(
  machine: Machine,
  { home }: ServiceOptions,
  { user }: Owner,
): Promise<Change[]> {
  const id = await freeId(machine);
  const set = (path: string, ...words: string[]): Change =>
    run(`the user ${user}: ${words.join(' ')}`, [DSCL, '.', '-create', path, ...words]);
  const made = (path: string): Change =>
    run(
      `make ${path}, who can't log in`,
      [DSCL, '.', '-create', path],
      undoBy(`make ${path}`, [DSCL, '.', '-delete', path], NO_RECORD),
    );
  return [
    made(`/Groups/${user}`),
    set(`/Groups/${user}`, 'PrimaryGroupID', String(id)),
    set(`/Groups/${user}`, 'Password', '*'),
    made(`/Users/${user}`),
    set(`/Users/${user}`, 'UniqueID', String(id)),
    set(`/Users/${user}`, 'PrimaryGroupID', String(id)),
    set(`/Users/${user}`, 'NFSHomeDirectory', home),
    set(`/Users/${user}`, 'UserShell', '/usr/bin/false'),
    set(`/Users/${user}`, 'RealName', 'minikeep'),
    set(`/Users/${user}`, 'IsHidden', '1'),
    set(`/Users/${user}`, 'Password', '*'),
    {
      kind: 'check',
      what: `this Mac knows ${user}`,
      argv: ['/usr/bin/id', '-u', user],
      expect: new RegExp(`^${id}$`, 'm'),
    },
  ];
}

async function freeId(machine: Machine): Promise<number> {
  const users = await machine.run(DSCL, ['.', '-list', '/Users', 'UniqueID']);
  const groups = await machine.run(DSCL, ['.', '-list', '/Groups', 'PrimaryGroupID']);
  const ids = (text: string): number[] =>
    text.split('\n').map((line) => Number(/(-?\d+)\s*$/.exec(line)?.[1] ?? Number.NaN));
  const used = new Set([...ids(users.stdout), ...ids(groups.stdout)]);
  if (users.code === 0 && groups.code === 0)
    for (let id = ID_LAST; id >= ID_FIRST; id--) if (!used.has(id)) return id;
  throw new MinikeepError('service.user_no_id', 'no free number for a user of the node was found', {
    next: 'Name a user that is there: --user NAME',
  });
}

/** Only settings that this Mac has, and only those that are otherwise; `remove` puts their values back. */
async function planPower(machine: Machine): Promise<{ changes: Change[]; settings: string[] }> {
  const { stdout } = await machine.run(PMSET, ['-g']);
  const known = Object.keys(POWER).flatMap((name) => {
    const found = new RegExp(`^\\s*${name}\\s+(\\d+)`, 'm').exec(stdout)?.[1];
    return found === undefined ? [] : [[name, Number(found)] as const];
  });
  const settings = known.flatMap(([name]) => [name, String(POWER[name])]);
  const other = known.filter(([name, value]) => value !== POWER[name]);
  const checks: Change[] = known.map(([name]) => ({
    kind: 'check',
    what: `pmset says ${name} ${POWER[name]}`,
    argv: [PMSET, '-g'],
    expect: new RegExp(`^\\s*${name}\\s+${POWER[name]}\\b`, 'm'),
  }));
  if (other.length === 0) return { changes: [], settings };
  const pairs = (value: (name: string, before: number) => number): string[] =>
    other.flatMap(([name, before]) => [name, String(value(name, before))]);
  const back: Undo = undoBy('sleep and restarts', [PMSET, '-a', ...pairs((_, before) => before)]);
  return {
    changes: [
      run(
        'never sleep, start again after a power cut, wake for the network',
        [PMSET, '-a', ...pairs((name) => POWER[name] ?? 0)],
        back,
      ),
      ...checks,
    ],
    settings,
  };
}

async function planWiredLimit(machine: Machine, mebibytes: number): Promise<Change[]> {
  const { stdout } = await machine.run(SYSCTL, ['-n', 'iogpu.wired_limit_mb']);
  const before = stdout.trim();
  if (!/^\d+$/.test(before))
    throw new MinikeepError('service.no_wired_limit', 'this machine has no iogpu.wired_limit_mb', {
      next: 'Leave --wired-limit out.',
    });
  return [
    run(
      `let the GPU wire ${mebibytes} MiB`,
      [SYSCTL, `iogpu.wired_limit_mb=${mebibytes}`],
      undoBy('the GPU’s wired limit', [SYSCTL, `iogpu.wired_limit_mb=${before}`]),
    ),
    {
      kind: 'check',
      what: 'the limit is set',
      argv: [SYSCTL, '-n', 'iogpu.wired_limit_mb'],
      expect: new RegExp(`^${mebibytes}$`, 'm'),
    },
  ];
}

/** Where the firewall is on it would ask on a screen that nobody looks at. */
async function planFirewall(machine: Machine, node: string): Promise<Change[]> {
  const { stdout } = await machine.run(FIREWALL, ['--getglobalstate']);
  if (!/State = [12]/.test(stdout)) return [];
  return [
    run(
      'let others reach the node through macOS’s firewall',
      [FIREWALL, '--add', node],
      undoBy('the firewall’s exception', [FIREWALL, '--remove', node]),
    ),
    run('and don’t ask about it', [FIREWALL, '--unblockapp', node]),
  ];
}
