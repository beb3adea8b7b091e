/**
 * Whom a node's service runs as. A home of root's is given to a user of its own, who can't log in; a home of a person
 * stays theirs, and the service runs as them. Never as root.
 */
import { MinikeepError } from '@minikeep/protocol';
import path from 'node:path';
import { run, undoBy, type Change } from './change.ts';
import { programOf, type Machine } from './machine.ts';
import { SYSTEM_HOMES, type ServiceOptions } from './options.ts';

export interface Owner {
  readonly user: string;
  readonly group: string;
  /** That user has to be made. */
  readonly create: boolean;
  /** The home has to be given to that user; what it was before. */
  readonly homeFrom?: { readonly uid: number } | undefined;
}

const USER = /^[a-z_][a-z0-9_.-]{0,31}$/i;

/** Throws `service.no_home`, `service.user_*`, `service.home_hidden`. */
export async function ownerOf(
  machine: Machine,
  options: ServiceOptions,
  ownUser: string,
): Promise<Owner> {
  const { home } = options;
  const facts = machine.stat(home);
  if (facts === undefined || !facts.directory)
    throw new MinikeepError('service.no_home', `there is no folder ${home}`, {
      next: 'Make a cluster with `minikeep init`, or join one with `minikeep join`, then install the service.',
    });
  const named = options.user;
  if (named !== undefined && !USER.test(named))
    throw new MinikeepError('service.user_invalid', `"${named.slice(0, 60)}" is no user name`, {
      next: 'Leave --user out: the node gets a user of its own.',
    });
  const user = named ?? (facts.uid === 0 ? ownUser : await nameOf(machine, facts.uid));
  const uid = await idOf(machine, user, '-u');
  if (uid === 0)
    throw new MinikeepError('service.user_root', 'a node never runs as root', {
      next: 'Leave --user out: the node gets a user of its own.',
    });
  if (uid === undefined && user !== ownUser)
    throw new MinikeepError('service.user_unknown', `this machine has no user ${user}`, {
      next: 'Leave --user out: the node gets a user of its own.',
    });
  const group = uid === undefined ? user : await groupOf(machine, user);
  checkReach(machine, home, uid ?? -1, 'home');
  checkReach(machine, options.program, uid ?? -1, 'program');
  return {
    user,
    group,
    create: uid === undefined,
    ...(facts.uid === uid ? {} : { homeFrom: { uid: facts.uid } }),
  };
}

async function idOf(machine: Machine, user: string, flag: string): Promise<number | undefined> {
  const { code, stdout } = await machine.run('/usr/bin/id', [flag, user]);
  return code === 0 && /^\d+$/.test(stdout.trim()) ? Number(stdout) : undefined;
}

async function nameOf(machine: Machine, uid: number): Promise<string> {
  const { code, stdout } = await machine.run('/usr/bin/id', ['-un', String(uid)]);
  if (code === 0 && USER.test(stdout.trim())) return stdout.trim();
  throw new MinikeepError(
    'service.user_unknown',
    `the home belongs to user ${uid}, who has no name`,
    {
      next: 'Give the home to somebody (sudo chown -R), or name a user: --user NAME',
    },
  );
}

async function groupOf(machine: Machine, user: string): Promise<string> {
  const { stdout } = await machine.run('/usr/bin/id', ['-gn', user]);
  return stdout.trim();
}

/** Every folder on the way lets that user through. */
function checkReach(machine: Machine, file: string, uid: number, what: 'home' | 'program'): void {
  for (let at = path.dirname(file); at !== '/'; at = path.dirname(at)) {
    const facts = machine.stat(at);
    if (facts === undefined) continue;
    if ((facts.mode & 0o001) !== 0 || facts.uid === uid) continue;
    const better = SYSTEM_HOMES[machine.platform] ?? '/var/lib/minikeep';
    throw new MinikeepError(
      `service.${what}_hidden`,
      `the ${what} ${file} lies in ${at}, which only its owner may enter`,
      {
        next:
          what === 'home'
            ? `Move it: sudo mv ${file} ${better}, then: sudo minikeep service install --home ${better}`
            : 'Install minikeep for all (sudo sh install.sh ARCHIVE --digest SHA256 puts it in /opt/minikeep), and start it from there.',
      },
    );
  }
}

/** Nothing when it is theirs already. */
export function giveHome(machine: Machine, { home }: ServiceOptions, owner: Owner): Change[] {
  if (owner.homeFrom === undefined) return [];
  const chown = programOf(machine, 'chown');
  return [
    run(
      `give ${home} to ${owner.user}`,
      [chown, '-R', '-h', `${owner.user}:${owner.group}`, home],
      undoBy(
        `give ${home} to ${owner.user}`,
        [chown, '-R', '-h', `${owner.homeFrom.uid}:0`, home],
        [],
      ),
    ),
  ];
}
