/** What can be typed about the seal. */
import { Option, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { PolicyFlags } from './commands/seal-policy.ts';
import type { ViolationsFlags } from './commands/violations.ts';
import type { HomeFlags } from './home-folder.ts';
import * as read from './options.ts';
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
  seal
    .command('policy')
    .summary('what becomes of an engine that tries to get out')
    .description(
      'Shows or sets what becomes of an engine that tries to get out, and whether a cluster whose monitors do not see serves. Kept, and an event of the log.',
    )
    .addOption(homeOption())
    .addOption(
      new Option(
        '--violations <policy>',
        'report: refused and recorded; quarantine (at first): what aims outside, at programs, at files to write or at monitors stops the engine, and its deployment is not started again; kill-cluster: and every other deployment with it',
      ).choices(['report', 'quarantine', 'kill-cluster']),
    )
    .addOption(
      new Option(
        '--when-blind <policy>',
        'serve, or refuse (at first) while attempts might go unseen',
      ).choices(['serve', 'refuse']),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep seal policy\n  minikeep seal policy --violations kill-cluster',
    )
    .action(async (flags: PolicyFlags) => {
      const { sealPolicy } = await import('./commands/seal-policy.ts');
      ended(await sealPolicy(context, flags));
    });
  seal
    .command('lift')
    .summary('let a deployment in quarantine be started again')
    .description(
      'Ends the quarantine of a deployment whose engine tried to get out. It starts nothing, and it is an event of the log.',
    )
    .argument('<name>', 'the deployment')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep seal lift r1')
    .action(async (name: string, flags: HomeFlags) => {
      const { sealLift } = await import('./commands/seal-policy.ts');
      ended(await sealLift(context, name, flags));
    });
  program
    .command('violations')
    .summary('what was tried, and refused')
    .description(
      'Shows refused attempts of engines, agents and the coordinator, the newest last: when, where, by whom, what, where to, refused by what, seen by what. Of a target only what can carry no prompt is kept: addresses, ports, the last two labels of a name, a folder of the system; the rest is told by its length and a digest.',
    )
    .addOption(homeOption())
    .option('--follow', 'go on with new ones as they happen; NDJSON with --json')
    .option(
      '--reveal',
      'show targets in whole, as far as the nodes still remember them; that this was asked for is kept in the log',
    )
    .option('--node <name>', 'only those of one node')
    .addOption(
      new Option('--count <n>', 'at most so many')
        .argParser(read.integer(1, 10_000))
        .default(1_000, '1000'),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep violations\n  minikeep violations --follow --json | jq -r .target',
    )
    .action(async (flags: ViolationsFlags) => {
      const { violations } = await import('./commands/violations.ts');
      ended(await violations(context, flags));
    });
  const audit = program
    .command('audit')
    .summary('whether the event log is what it was')
    .description('The event log: append-only, each entry covers the one before it.');
  audit
    .command('verify')
    .summary('make the chain of the event log anew, and compare it with what each node remembers')
    .description(
      'Makes the whole chain anew and compares it with the signed ends that each node remembers: an edit, a cut or a roll-back on one machine shows. Exit 3 if the log is not what it was. Where the cluster does not run, the chain alone.',
    )
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep audit verify\n  minikeep audit verify --json')
    .action(async (flags: HomeFlags) => {
      const { auditVerify } = await import('./commands/audit.ts');
      ended(await auditVerify(context, flags));
    });
  audit
    .command('export')
    .summary('a copy of the event log that verifies without minikeep')
    .description(
      'Writes the whole log, the public key of the authority and the signed end into one file (NDJSON). docs/verify-log.py verifies it with Python and openssl alone.',
    )
    .argument('<file>', 'where to write it; must not be there')
    .addOption(homeOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep audit export lab-log.ndjson\n  python3 docs/verify-log.py lab-log.ndjson',
    )
    .action(async (file: string, flags: HomeFlags) => {
      const { auditExport } = await import('./commands/audit.ts');
      ended(await auditExport(context, file, flags));
    });
}
