/** What can be typed about the seal. */
import type { Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { HomeFlags } from './home-folder.ts';
import { homeOption } from './shared-options.ts';

type Ended = (exitCode: number) => void;

export function addSeal(program: Command, context: CommandContext, ended: Ended): void {
  const seal = program
    .command('seal')
    .summary('what keeps engines in, and how that is known')
    .description('What keeps engines in, and how that is known.');
  seal
    .command('status')
    .summary('what is enforced, watched and proven on each node')
    .description(
      'Shows for each node what the system says of its engines (enforced), whether every monitor is heard (watched) and what the last canary found (proven), each with its age; and why the cluster is not sealed better, where it is not.',
    )
    .addOption(homeOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep seal status\n  minikeep seal status --json | jq .sealed',
    )
    .action(async (flags: HomeFlags) => {
      const { sealStatus } = await import('./commands/seal-status.ts');
      ended(await sealStatus(context, flags));
    });
}
