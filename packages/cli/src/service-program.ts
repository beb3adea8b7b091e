/** What can be typed after `minikeep service`, and `minikeep stop`. */
import { Option, type Command } from 'commander';
import type { CommandContext, CommonFlags } from './command-context.ts';
import type { ServiceInstallFlags, ServiceRemoveFlags } from './commands/service.ts';
import type { HomeFlags } from './home-folder.ts';
import * as read from './options.ts';
import { homeOption } from './shared-options.ts';

type Ended = (exitCode: number) => void;

const WIRED_MEBIBYTES_MAX = 4 * 1024 * 1024;

export function addService(program: Command, context: CommandContext, ended: Ended): void {
  const service = program
    .command('service')
    .summary('let the system start this node: launchd or systemd')
    .description(
      'Makes this node a service of launchd (macOS) or systemd (Linux), which runs as a user of its own, starts at boot and again when it ends, and keeps the machine awake. What it changes is written down, and `remove` undoes exactly that.',
    );
  service
    .command('install')
    .summary('install the service, and start it')
    .description(
      "Writes the service, starts it, and looks whether it runs; when it does not, all is undone. A home of root's is given to a user of its own; a home of a person's stays theirs, and the service runs as them.",
    )
    .addOption(homeOption())
    .option('--dry-run', 'show every file and command, and change nothing')
    .option('--user <name>', 'whom it runs as (default: see above)')
    .option('--keep-power', 'leave sleep and restarts as they are')
    .addOption(
      new Option(
        '--wired-limit <mebibytes>',
        'macOS: what the GPU may wire (iogpu.wired_limit_mb), set again at each boot',
      ).argParser(read.integer(1024, WIRED_MEBIBYTES_MAX)),
    )
    .option(
      '--read-log',
      "macOS: let the node's user read the system's log (group admin), where refused attempts are seen",
    )
    .addHelpText(
      'after',
      `
Examples:
  minikeep service install --dry-run
  sudo minikeep service install --home /var/lib/minikeep
  sudo minikeep service install --wired-limit 57344          a Mac with 64 GB`,
    )
    .action(async (flags: ServiceInstallFlags) => {
      const { serviceInstall } = await import('./commands/service.ts');
      ended(await serviceInstall(context, flags));
    });
  service
    .command('status')
    .summary('whether it runs; exit 3 if not')
    .description('Says whether the service is installed, runs and starts at boot. Exit 3 if not.')
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep service status\n  minikeep service status --json',
    )
    .action(async (flags: CommonFlags) => {
      const { serviceStatusCommand } = await import('./commands/service.ts');
      ended(await serviceStatusCommand(context, flags));
    });
  service
    .command('remove')
    .summary('stop the node, and undo all that install changed')
    .description(
      "Stops the node, removes the service and its user, and puts back what was changed (sleep, restarts, limits, the home's owner). The home stays.",
    )
    .option('--dry-run', 'show what would be undone, and change nothing')
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep service remove --dry-run\n  sudo minikeep service remove',
    )
    .action(async (flags: ServiceRemoveFlags) => {
      const { serviceRemove } = await import('./commands/service.ts');
      ended(await serviceRemove(context, flags));
    });
  program
    .command('stop')
    .summary('end a node that was started with start')
    .description('Ends the node of this home that `minikeep start` runs, in order.')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep stop\n  minikeep stop --home /srv/minikeep')
    .action(async (flags: HomeFlags) => {
      const { stop } = await import('./commands/background.ts');
      ended(await stop(context, flags));
    });
}
