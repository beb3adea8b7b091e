/** What can be typed to look after one machine: `doctor`. */
import type { Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { DoctorFlags } from './commands/doctor.ts';

type Ended = (exitCode: number) => void;

export function addMachine(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('doctor')
    .summary('check this machine or a node, and say what mends what it found')
    .description(
      'Looks at versions, files, memory, the GPU that an engine sees, the sandbox, clock, disk, links, ports, sleep and what macOS asks people, lets an engine compute in its sandbox, and says for each finding what mends it. Changes nothing. Exit 3 if something blocks a node here.',
    )
    .option('--node <name>', 'that node of the running cluster, looked at by its own agent')
    .option('--no-model-check', 'do not compare a split model with the whole (about 5 s)')
    .option(
      '--home <dir>',
      "a node's home: its disk is looked at, and the result is kept there (default: MINIKEEP_HOME)",
    )
    .addHelpText(
      'after',
      `
Examples:
  minikeep doctor
  minikeep doctor --node mini-2                  that node, asked of the cluster
  minikeep doctor --verbose                      what is in order, too
  minikeep doctor --json | jq '.findings[] | select(.level=="blocks")'`,
    )
    .action(async (flags: DoctorFlags) => {
      if (flags.node === undefined) {
        const { doctor } = await import('./commands/doctor.ts');
        ended(await doctor(context, flags));
      } else {
        const { doctorNode } = await import('./commands/doctor-node.ts');
        ended(await doctorNode(context, flags.node, flags));
      }
    });
}
