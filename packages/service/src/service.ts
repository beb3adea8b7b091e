/** Installing, looking at and removing a node's service, whatever manages services here. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { applyChanges, undoAll, type ApplyOptions, type Left } from './apply.ts';
import { planLaunchd, plistFile } from './launchd.ts';
import { programOf, type Machine } from './machine.ts';
import { LABEL, UNIT, type ServiceOptions } from './options.ts';
import { readRecord, RECORD_FILE, writeRecord, type ServiceRecord } from './record.ts';
import { planSystemd, UNIT_FILE, type Planned } from './systemd.ts';

export type Manager = 'systemd' | 'launchd';

/** Undefined: nothing here starts services (a container, another init). */
export function managerOf(machine: Machine): Manager | undefined {
  if (machine.platform === 'darwin') return 'launchd';
  // sd_booted(3): the folder is there while systemd is process 1.
  return machine.stat('/run/systemd/system')?.directory === true ? 'systemd' : undefined;
}

function requireManager(machine: Machine): Manager {
  const manager = managerOf(machine);
  if (manager !== undefined) return manager;
  const first = machine.read('/proc/1/comm')?.trim();
  throw new MinikeepError(
    'service.no_manager',
    `nothing on this machine manages services: process 1 is ${first ?? 'unknown'}, not systemd`,
    {
      next: 'In a container make `minikeep start --home DIR` the command that it runs, and let its restart policy start it again. Elsewhere: minikeep start --background --home DIR, and the same line where this machine starts things at boot.',
    },
  );
}

/** Reads the machine, changes nothing. Throws `service.*`. */
export async function planService(
  machine: Machine,
  options: ServiceOptions,
): Promise<Planned & { readonly manager: Manager }> {
  checkPath(options.home, 'home');
  checkPath(options.program, 'program');
  const manager = requireManager(machine);
  const planned =
    manager === 'systemd'
      ? await planSystemd(machine, options)
      : await planLaunchd(machine, options);
  return { ...planned, manager };
}

/** A line break in a unit would be a second setting, and systemd starts no program with quotes in its name. */
function checkPath(file: string, what: string): void {
  if (/^\/[^\p{Cc}"'\\]*$/u.test(file)) return;
  throw new MinikeepError('service.path_invalid', `the path of the ${what} has odd characters`, {
    next: 'Move it to a folder with a plain name.',
    exitCode: EXIT.usage,
  });
}

/** Throws `service.*`, and what `lastly` does; the machine is as before then. */
export async function installService(
  machine: Machine,
  options: ServiceOptions,
  how: Pick<ApplyOptions, 'onChange' | 'lastly' | 'signal'>,
): Promise<Planned & { readonly manager: Manager }> {
  requireRoot(machine, 'install');
  const planned = await planService(machine, options);
  const before = readRecord(machine);
  if (before !== undefined && before.home !== options.home)
    throw new MinikeepError(
      'service.other_home',
      `this machine has a service already, for the home ${before.home}`,
      { next: 'Remove it first: sudo minikeep service remove' },
    );
  const record: ServiceRecord = {
    format: 1,
    manager: planned.manager,
    version: options.version,
    home: options.home,
    program: options.program,
    user: planned.user,
    undo: before?.undo ?? [],
  };
  const made = await applyChanges(planned.changes, { machine, record, ...how });
  writeRecord(machine, made);
  return planned;
}

/** Undoes all that was recorded. What could not be undone stays in the record. Throws `service.not_installed`. */
export async function removeService(
  machine: Machine,
  onUndo: (what: string) => void,
): Promise<readonly Left[]> {
  requireRoot(machine, 'remove');
  const record = readRecord(machine);
  if (record === undefined) throw notInstalled();
  const left = await undoAll(record.undo, machine, onUndo);
  if (left.length === 0) machine.remove(RECORD_FILE);
  else writeRecord(machine, { ...record, undo: left.map(({ undo }) => undo) });
  return left;
}

export const notInstalled = (): MinikeepError =>
  new MinikeepError('service.not_installed', 'no service of minikeep is installed here', {
    next: 'Install it: sudo minikeep service install --home DIR',
  });

function requireRoot(machine: Machine, what: string): void {
  if (machine.root) return;
  throw new MinikeepError('service.not_root', `to ${what} a service takes root`, {
    next: `sudo minikeep service ${what}${what === 'install' ? '; see before what it would do: minikeep service install --dry-run' : ''}`,
    exitCode: EXIT.denied,
  });
}

export interface ServiceStatus {
  readonly manager: Manager | undefined;
  readonly installed: boolean;
  readonly enabled: boolean;
  readonly running: boolean;
  readonly pid: number | undefined;
  readonly restarts: number | undefined;
  readonly home: string | undefined;
  readonly user: string | undefined;
  readonly version: string | undefined;
  readonly file: string | undefined;
  /** Where its log is read. */
  readonly log: string | undefined;
}

export async function serviceStatus(machine: Machine): Promise<ServiceStatus> {
  const record = readRecord(machine);
  const manager = managerOf(machine);
  const known = {
    manager,
    home: record?.home,
    user: record?.user,
    version: record?.version,
  };
  const nothing = { enabled: false, running: false, pid: undefined, restarts: undefined };
  if (manager === undefined || record === undefined)
    return { ...known, ...nothing, installed: false, file: undefined, log: undefined };
  if (manager === 'launchd') {
    const { code, stdout } = await machine.run('/bin/launchctl', ['print', `system/${LABEL}`]);
    const pid = numberIn(stdout, /^\s*pid = (\d+)$/m);
    const runs = numberIn(stdout, /^\s*runs = (\d+)$/m);
    return {
      ...known,
      installed: machine.stat(plistFile(LABEL)) !== undefined,
      enabled: code === 0,
      running: /^\s*state = running$/m.test(stdout),
      pid,
      restarts: runs === undefined ? undefined : Math.max(0, runs - 1),
      file: plistFile(LABEL),
      log: 'tail -f /Library/Logs/minikeep/node.log',
    };
  }
  const { stdout } = await machine.run(programOf(machine, 'systemctl'), [
    'show',
    '-p',
    'ActiveState,UnitFileState,MainPID,NRestarts',
    UNIT,
  ]);
  const pid = numberIn(stdout, /^MainPID=(\d+)$/m);
  return {
    ...known,
    installed: machine.stat(UNIT_FILE) !== undefined,
    enabled: /^UnitFileState=enabled$/m.test(stdout),
    running: /^ActiveState=active$/m.test(stdout),
    pid: pid === 0 ? undefined : pid,
    restarts: numberIn(stdout, /^NRestarts=(\d+)$/m),
    file: UNIT_FILE,
    log: `journalctl -u ${UNIT} -f`,
  };
}

function numberIn(text: string, pattern: RegExp): number | undefined {
  const found = pattern.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}
