/** `minikeep output-guard`: what can be typed. */
import { Argument, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { OutputGuardFlags } from './commands/output-guard.ts';
import { OUTPUT_POLICY_NAMES, type OutputPolicyName } from './output-policy-names.ts';
import { homeOption } from './shared-options.ts';

export function addOutputGuard(
  program: Command,
  context: CommandContext,
  ended: (exitCode: number) => void,
): void {
  program
    .command('output-guard')
    .summary('what becomes of ways out in answers')
    .description(
      'An answer can hold an image or a link that the program which shows it fetches, with a prompt in its address; or characters that nobody sees. Shows what is done about that, or changes it, from the next answer on: report (nothing is changed), defang (shown, so that no program fetches it) or block (the answer ends there). Each find is a violation.',
    )
    .addArgument(new Argument('[policy]', 'default: show it').choices(OUTPUT_POLICY_NAMES))
    .option('--confirm <cluster>', "the cluster's name: `report` needs it")
    .addOption(homeOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep output-guard\n  minikeep output-guard block\n  minikeep output-guard report --confirm=lab',
    )
    .action(async (policy: OutputPolicyName | undefined, flags: OutputGuardFlags) => {
      const { outputGuard } = await import('./commands/output-guard.ts');
      ended(await outputGuard(context, policy, flags));
    });
}
