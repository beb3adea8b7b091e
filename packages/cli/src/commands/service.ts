/** `minikeep service install|status|remove`: a node that the system starts. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, MINIKEEP_VERSION, MinikeepError } from '@minikeep/protocol';
import {
  describeChange,
  describeUndo,
  installService,
  planService,
  readRecord,
  removeService,
  serviceStatus,
  THIS_MACHINE,
  notInstalled,
  type ServiceOptions,
} from '@minikeep/service';
import { FILES } from '@minikeep/state';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { defaultHome, typedPath, type HomeFlags } from '../home-folder.ts';
import { endOf, startedProcess } from '../started.ts';

export interface ServiceInstallFlags extends HomeFlags {
  readonly user?: string;
  readonly wiredLimit?: number;
  readonly readLog?: boolean;
  readonly keepPower?: boolean;
  readonly dryRun?: boolean;
}
export interface ServiceRemoveFlags extends CommonFlags {
  readonly dryRun?: boolean;
}

export async function serviceInstall(
  { terminal, interrupts, distFolder }: CommandContext,
  flags: ServiceInstallFlags,
): Promise<number> {
  const options = optionsOf(flags, distFolder);
  if (flags.dryRun === true) {
    const planned = await planService(THIS_MACHINE, options);
    const steps = planned.changes.map((change) => ({
      what: change.what,
      lines: describeChange(change),
    }));
    if (flags.json === true)
      await terminal.json({
        manager: planned.manager,
        user: planned.user,
        steps,
        by_hand: planned.byHand,
      });
    else {
      await terminal.line(
        `This would be done, and nothing else (${planned.manager}, as user ${planned.user}):`,
      );
      for (const { lines } of steps) {
        await terminal.line();
        for (const line of lines) await terminal.line(line);
      }
      await sayByHand(terminal, planned.byHand);
      await terminal.line();
      await terminal.line('Nothing was changed.');
    }
    return EXIT.ok;
  }
  await endBackground(options.home, terminal);
  const done: string[] = [];
  const json = flags.json === true;
  const planned = await installService(THIS_MACHINE, options, {
    onChange: (what) => {
      done.push(what);
      if (!json) terminal.note(`· ${what}`);
    },
    lastly: () => listens(options.home, interrupts.signal),
    signal: interrupts.signal,
  });
  if (json)
    await terminal.json({
      manager: planned.manager,
      user: planned.user,
      home: options.home,
      changed: done,
      by_hand: planned.byHand,
    });
  else {
    await terminal.paragraph(
      `The node of ${options.home} is a service of ${planned.manager}: it runs as user ${planned.user}, starts at boot, and again when it ends.`,
    );
    await sayByHand(terminal, planned.byHand);
    await terminal.line('Undo all of it: sudo minikeep service remove');
  }
  return EXIT.ok;
}

/** A node that `start` runs would hold the home: the service takes its place. */
async function endBackground(home: string, terminal: CommandContext['terminal']): Promise<void> {
  const pid = startedProcess(home);
  if (pid === undefined || process.geteuid?.() !== 0 || readRecord(THIS_MACHINE)?.home === home)
    return;
  terminal.note(`· end process ${pid}, which runs this node until now`);
  process.kill(pid, 'SIGTERM');
  await endOf(pid, STOP_MS_MAX);
}

const STOP_MS_MAX = 30_000;
const LISTEN_MS_MAX = 60_000;
const LISTEN_POLL_MS = 200;
/** A node that ends so often at its start does not mend itself. */
const RESTARTS_MAX = 3;

/** A process that runs is not yet a node that answers: its home says when it does. */
async function listens(home: string, signal: AbortSignal): Promise<void> {
  for (let waited = 0; waited < LISTEN_MS_MAX; waited += LISTEN_POLL_MS) {
    if (startedProcess(home) !== undefined) return;
    await pause(LISTEN_POLL_MS, undefined, { signal });
    const { restarts = 0, log } = await serviceStatus(THIS_MACHINE);
    if (restarts > RESTARTS_MAX)
      throw new MinikeepError(
        'service.keeps_ending',
        `the service was started ${restarts + 1} times, and the node of ${home} ended each time`,
        { next: `See why: ${log ?? 'its log'}` },
      );
  }
  throw new MinikeepError(
    'service.not_listening',
    `the service was started, but the node of ${home} did not listen within ${LISTEN_MS_MAX / 1000} s`,
    {
      next: `All is as it was before. See why in the foreground: minikeep start --home ${typedPath(home)} --verbose`,
    },
  );
}

async function sayByHand(
  terminal: CommandContext['terminal'],
  byHand: readonly string[],
): Promise<void> {
  for (const one of byHand) await terminal.paragraph(one, 'By hand: ');
}

/** Not homeFolder: a service is installed by root, whoever the home belongs to. */
function optionsOf(flags: ServiceInstallFlags, distFolder: string): ServiceOptions {
  const named = flags.home ?? process.env['MINIKEEP_HOME'] ?? '';
  const home = path.resolve(named === '' ? defaultHome() : named);
  // A person's home is not seen from here: systemd has no business in a folder that it can't name.
  if (existsSync(path.dirname(home)) && !existsSync(path.join(home, FILES.settings)))
    throw new MinikeepError('home.no_cluster', `${home} belongs to no cluster`, {
      next: `Make a cluster there (minikeep init --home ${typedPath(home)}), or join one (minikeep join --home ${typedPath(home)} --token-file -); a home of your own is named: --home ${path.join(homedir(), '.minikeep')}`,
      exitCode: EXIT.usage,
    });
  return {
    home,
    program: programPath(distFolder),
    node: realpathSync(process.execPath),
    version: MINIKEEP_VERSION,
    user: flags.user,
    wiredLimitMebibytes: flags.wiredLimit,
    readLog: flags.readLog === true,
    keepPower: flags.keepPower === true,
  };
}

/** By the link that installing a newer version moves; in a checkout its own starter. */
export function programPath(distFolder: string): string {
  const root = path.resolve(distFolder, '..');
  const prefix = path.resolve(root, '../..');
  const link = path.join(prefix, 'bin/minikeep');
  if (existsSync(path.join(prefix, 'current')) && existsSync(link)) return link;
  return existsSync(path.join(root, 'bin/minikeep'))
    ? path.join(root, 'bin/minikeep')
    : path.join(root, 'minikeep');
}

export async function serviceStatusCommand(
  { terminal }: CommandContext,
  flags: CommonFlags,
): Promise<number> {
  const status = await serviceStatus(THIS_MACHINE);
  if (flags.json === true) {
    await terminal.json({
      manager: status.manager ?? null,
      installed: status.installed,
      enabled: status.enabled,
      running: status.running,
      pid: status.pid ?? null,
      restarts: status.restarts ?? null,
      home: status.home ?? null,
      user: status.user ?? null,
      version: status.version ?? null,
      file: status.file ?? null,
      log: status.log ?? null,
    });
    return status.installed && status.running ? EXIT.ok : EXIT.checkFailed;
  }
  if (!status.installed) {
    await terminal.line(
      status.manager === undefined
        ? `No service: nothing on this machine manages services (process 1 is ${processOne()}). Run a node with: minikeep start --background`
        : `No service of minikeep is installed (${status.manager}). Install it: sudo minikeep service install`,
    );
    return EXIT.checkFailed;
  }
  await terminal.line(
    `${status.running ? `runs, as process ${status.pid ?? '?'}` : 'DOES NOT RUN'}; ${status.enabled ? 'starts at boot' : 'DOES NOT START at boot'}; restarts since: ${status.restarts ?? 'unknown'}`,
  );
  await terminal.line(`home ${status.home}, user ${status.user}, ${status.file}`);
  await terminal.line(`log: ${status.log}`);
  return status.running ? EXIT.ok : EXIT.checkFailed;
}

function processOne(): string {
  try {
    return readFileSync('/proc/1/comm', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

export async function serviceRemove(
  { terminal }: CommandContext,
  flags: ServiceRemoveFlags,
): Promise<number> {
  if (flags.dryRun === true) {
    const record = readRecord(THIS_MACHINE);
    if (record === undefined) throw notInstalled();
    const steps = record.undo.toReversed().map(describeUndo);
    if (flags.json === true) await terminal.json({ steps });
    else {
      await terminal.line('This would be done, and nothing else:');
      for (const step of steps) await terminal.line(`  ${step}`);
      await terminal.line(
        `Your cluster's state in ${record.home} would stay. Nothing was changed.`,
      );
    }
    return EXIT.ok;
  }
  const steps: string[] = [];
  const left = await removeService(THIS_MACHINE, (what) => {
    steps.push(what);
    if (flags.json !== true) terminal.note(`· ${what}`);
  });
  if (flags.json === true)
    await terminal.json({
      undone: steps,
      left: left.map(({ undo, why }) => ({ what: describeUndo(undo), why })),
    });
  if (left.length > 0)
    throw new MinikeepError(
      'service.not_all_undone',
      `not all could be undone: ${left.map(({ undo, why }) => `${describeUndo(undo)}: ${why}`).join('; ')}`,
      { next: 'Mend what stands there, then: sudo minikeep service remove' },
    );
  if (flags.json !== true)
    await terminal.line(
      'The service is gone, and all that it changed is as it was. The home stays.',
    );
  return EXIT.ok;
}
