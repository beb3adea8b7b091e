/** What can be typed after `minikeep bootstrap`. */
import { Option, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { BootstrapFlags } from './commands/bootstrap.ts';
import * as read from './options.ts';

const BUNDLES_MAX = 2;
const PATH_LENGTH_MAX = 4096;
const DIGEST_LENGTH_MAX = 80;

export function addBootstrap(
  program: Command,
  context: CommandContext,
  ended: (exitCode: number) => void,
): void {
  program
    .command('bootstrap')
    .summary('set up a whole stack over ssh: install, start, join')
    .description(
      "For every machine of a stack file, in parallel, over this machine's own ssh (keys, agent and known hosts as they are; nothing is asked): copies the bundle, installs it, checks the machine, makes it a service, and joins it. Says what is left to do by hand. Safe to run again: it goes on where it stopped. With a newer bundle it upgrades node by node, and goes back when one fails.",
    )
    .argument('<stack>', 'a stack file (YAML); cluster-configs/ has examples')
    .addOption(
      new Option('--bundle <file>', 'what `minikeep bundle` made; once for each platform')
        .argParser(read.collect(BUNDLES_MAX, PATH_LENGTH_MAX))
        .default([], 'minikeep is on every machine already'),
    )
    .addOption(
      new Option('--digest <sha256>', 'what `minikeep bundle` printed; in the order of the bundles')
        .argParser(read.collect(BUNDLES_MAX, DIGEST_LENGTH_MAX))
        .default([], 'none'),
    )
    .option('--ssh-config <file>', "a configuration for ssh, instead of the user's own")
    .addHelpText(
      'after',
      `
Examples:
  minikeep bootstrap stack.yaml --bundle minikeep-mac.tar.gz --digest SHA256
  minikeep bootstrap stack.yaml --json | jq -c 'select(.type=="done").nodes[]'`,
    )
    .action(async (file: string, flags: BootstrapFlags) => {
      const { bootstrapCommand } = await import('./commands/bootstrap.ts');
      ended(await bootstrapCommand(context, file, flags));
    });
}
