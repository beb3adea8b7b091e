/** A node under systemd: the unit, and what else of a Linux machine is changed for it. */
import { run, undoBy, type Argv, type Change } from './change.ts';
import { programOf, type Machine } from './machine.ts';
import { FILES_MAX, LINUX_USER, STOP_SECONDS, UNIT, type ServiceOptions } from './options.ts';
import { giveHome, ownerOf } from './owner.ts';

export const UNIT_FILE = `/etc/systemd/system/${UNIT}`;
/** What would put a machine that nobody sits at to sleep. */
const SLEEP_TARGETS = [
  'sleep.target',
  'suspend.target',
  'hibernate.target',
  'hybrid-sleep.target',
  'suspend-then-hibernate.target',
] as const;

/** In systemd's own quotes: % begins a specifier, $ a variable. */
const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`;

/** In the name of a program and in a list of paths $ stands for itself. */
const quotedPath = (text: string): string => quoted(text).replaceAll('$$', '$');

/**
 * Hardened with what the kernel does by mounts, capabilities and control groups. Nothing that works by a system-call
 * filter (SystemCallFilter, RestrictAddressFamilies, PrivateDevices, ProtectKernelTunables, ProtectKernelModules …): such
 * a filter answers before an engine's own warden, so attempts would be refused without anybody seeing them. Without
 * capabilities nothing of what those filters refuse is possible anyway. Nor ProtectProc: it hides processes that may not
 * be traced, an engine from its own warden among them.
 */
export function unitText({ home, program }: ServiceOptions, user: string, group: string): string {
  return `# Written by minikeep service install; minikeep service remove takes it away.
[Unit]
Description=minikeep node
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
User=${user}
Group=${group}
ExecStart=${quotedPath(program)} start --home ${quoted(home)} --verbose
Restart=always
RestartSec=2
KillMode=mixed
TimeoutStopSec=${STOP_SECONDS}
# An engine that the kernel ends for want of memory must not take its agent along.
OOMPolicy=continue
LimitNOFILE=${FILES_MAX}
LimitMEMLOCK=infinity
LimitCORE=0
UMask=0077
SyslogIdentifier=minikeep

# No filter of system calls here: it would answer before the warden, and attempts would be refused unseen.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths=${quotedPath(home)}
PrivateTmp=yes
DevicePolicy=closed
ReadOnlyPaths=/proc/sys /sys
ProtectControlGroups=yes
KeyringMode=private
RemoveIPC=yes

[Install]
WantedBy=multi-user.target
`;
}

export interface Planned {
  readonly user: string;
  readonly changes: readonly Change[];
  /** What only a person can do. */
  readonly byHand: readonly string[];
}

/** Reads the machine, changes nothing. Throws `service.*`. */
export async function planSystemd(machine: Machine, options: ServiceOptions): Promise<Planned> {
  const systemctl = programOf(machine, 'systemctl');
  const owner = await ownerOf(machine, options, LINUX_USER);
  const changes: Change[] = [];
  if (owner.create)
    changes.push(
      run(
        `make the user ${owner.user}, who can't log in`,
        [
          programOf(machine, 'useradd'),
          '--system',
          '--user-group',
          '--no-create-home',
          '--home-dir',
          options.home,
          '--shell',
          noShell(machine),
          owner.user,
        ],
        undoBy(`make the user ${owner.user}`, [programOf(machine, 'userdel'), owner.user], [6]),
      ),
    );
  changes.push(...giveHome(machine, options, owner));
  if (!options.keepPower) changes.push(...(await keepAwake(machine, systemctl)));
  const reload: Argv = [systemctl, 'daemon-reload'];
  changes.push(
    // Before the unit in this list, so that it is undone after the unit is gone.
    run('let systemd forget the unit at removal', undefined, undoBy('forget the unit', reload)),
    {
      kind: 'file',
      what: 'the unit: the node starts at boot, as its own user, and again when it ends',
      path: UNIT_FILE,
      content: unitText(options, owner.user, owner.group),
      mode: 0o644,
    },
    run('let systemd read the unit', reload),
    run(
      'start the node, now and at each boot',
      [systemctl, 'enable', UNIT],
      undoBy('stop the node', [systemctl, 'disable', '--now', UNIT]),
    ),
    // Not `start`: a service that is there already takes up what was changed.
    run('start it', [systemctl, 'restart', UNIT]),
    {
      kind: 'check',
      what: 'the service runs',
      argv: [systemctl, 'show', '-p', 'ActiveState', '--value', UNIT],
      expect: /^active$/m,
      log: ['/usr/bin/journalctl', '-u', UNIT, '-n', '15', '--no-pager', '-o', 'cat'],
    },
  );
  return {
    user: owner.user,
    changes,
    byHand: [
      'In the firmware’s settings (BIOS/UEFI) of a PC: power on after a power cut ("AC recovery", "restore on AC power loss").',
    ],
  };
}

const noShell = (machine: Machine): string =>
  ['/usr/sbin/nologin', '/sbin/nologin'].find((file) => machine.stat(file) !== undefined) ??
  '/bin/false';

/** Only what is not masked already: `remove` leaves what somebody else did. */
async function keepAwake(machine: Machine, systemctl: string): Promise<Change[]> {
  const { stdout } = await machine.run(systemctl, ['is-enabled', ...SLEEP_TARGETS]);
  const states = stdout.trim().split('\n');
  const open = SLEEP_TARGETS.filter(
    (_, i) => states[i] !== undefined && !states[i].startsWith('masked'),
  );
  if (open.length === 0) return [];
  return [
    run(
      'keep this machine awake',
      [systemctl, 'mask', ...open],
      undoBy('keep this machine awake', [systemctl, 'unmask', ...open]),
    ),
  ];
}
