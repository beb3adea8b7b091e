/** `minikeep output-guard`: what becomes of ways out in answers, shown or changed. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { OutputGuardServiceDefinition } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import type { OutputPolicyName } from '../output-policy-names.ts';
import { outputPolicyMessage, outputPolicyName } from '../output-policy.ts';

export interface OutputGuardFlags extends HomeFlags {
  readonly confirm?: string;
}

const MEANINGS: Readonly<Record<OutputPolicyName, string>> = {
  report: 'answers are not changed; what a program that shows them would fetch is only reported',
  defang: 'what a program that shows answers would fetch is shown, so that none fetches it',
  block: 'an answer ends where it holds a way out',
};

/** Throws `usage.confirm`, those of the connection. */
export async function outputGuard(
  { terminal }: CommandContext,
  wanted: OutputPolicyName | undefined,
  flags: OutputGuardFlags,
): Promise<number> {
  return withOperator(flags, async ({ service, settings }) => {
    const guard = service(OutputGuardServiceDefinition);
    if (wanted === 'report' && flags.confirm !== settings.cluster_name)
      throw new MinikeepError(
        'usage.confirm',
        'with `report` an answer can carry a prompt to whoever it names, through the program that shows it',
        {
          next: `To do it all the same: minikeep output-guard report --confirm=${settings.cluster_name}`,
          exitCode: EXIT.usage,
        },
      );
    if (wanted !== undefined) await guard.setOutputGuard({ policy: outputPolicyMessage(wanted) });
    const { policy, found } = await guard.getOutputGuard({});
    const name = outputPolicyName(policy);
    if (flags.json === true) await terminal.json({ output_guard: name, found });
    else await terminal.line(`output guard: ${name} (${MEANINGS[name]}); found so far: ${found}`);
    return EXIT.ok;
  });
}
