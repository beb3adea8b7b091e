/** Commands of a cluster that stays: what can be typed; what they do is in commands/. */
import { COORDINATOR_DEFAULTS } from '@minikeep/coordinator/membership-defaults';
import { Option, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { BackupFlags } from './commands/backup.ts';
import type { DrainFlags } from './commands/drain.ts';
import type { RemoveFlags } from './commands/nodes.ts';
import type { EventsFlags } from './commands/events.ts';
import type { InitFlags } from './commands/init.ts';
import type { InviteFlags } from './commands/invite.ts';
import type { JoinFlags } from './commands/join.ts';
import type { StartFlags } from './commands/start.ts';
import type { UpFlags } from './commands/up.ts';
import { CONTEXT_MAX, PARALLEL_MAX, THREADS_MAX } from './defaults.ts';
import type { HomeFlags } from './home-folder.ts';
import * as read from './options.ts';
import { addOutputGuard } from './output-guard-program.ts';
import {
  acceptChangedOption,
  homeOption,
  networkOption,
  outputGuardOption,
} from './shared-options.ts';

type Ended = (exitCode: number) => void;

const EVENTS_MAX = 10_000;
const CERTIFICATE_DAYS_MIN = 0.0002;
const CERTIFICATE_DAYS_MAX = 400;

export function addClusterCommands(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('init')
    .summary('make this machine the first node of a cluster')
    .description(
      'Makes a new cluster with this machine as its first node: certificate authority, keys, state. The others join with `minikeep join`. Nothing listens before `minikeep start`.',
    )
    .addOption(homeOption())
    .option('--name <name>', `what the cluster is called (default: "${COORDINATOR_DEFAULTS.name}")`)
    .option('--node-name <name>', "this machine's name in it (default: its host name)")
    .option(
      '--listen <address>',
      `where the coordinator listens; strangers join one port above (default: every address, port ${COORDINATOR_DEFAULTS.port})`,
    )
    .addOption(
      new Option(
        '--certificate-days <days>',
        `how long a node's certificate is good; it is renewed before (default: ${COORDINATOR_DEFAULTS.certificateDays})`,
      ).argParser(read.decimal(CERTIFICATE_DAYS_MIN, CERTIFICATE_DAYS_MAX)),
    )
    .addOption(outputGuardOption('answers (default: defang)'))
    .option('--restore <file>', "a cluster's backup: this machine takes the place of the lost one")
    .option('--passphrase-file <file>', "the backup's passphrase; - for standard input")
    .option(
      '--no-discovery',
      'never announce the cluster on the local network (Bonjour), nor look for it',
    )
    .addOption(networkOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep init --name lab\n  minikeep init --name lab --listen 192.168.1.20:7420\n  minikeep init --restore lab.backup --passphrase-file -',
    )
    .action(async (flags: InitFlags) => {
      if (flags.restore === undefined) {
        const { init } = await import('./commands/init.ts');
        ended(await init(context, flags));
      } else {
        const { restore } = await import('./commands/restore.ts');
        ended(await restore(context, flags.restore, flags));
      }
    });
  program
    .command('backup')
    .summary("keep the cluster's authority and state in one encrypted file")
    .description(
      "Writes what the cluster can't be brought back without into one file, encrypted with a passphrase (age): authority, members, what is up, event log. On the coordinator's machine; the cluster goes on meanwhile. Not in it: models and slices.",
    )
    .argument('<file>', 'where to write it; must not be there')
    .addOption(homeOption())
    .requiredOption('--passphrase-file <file>', 'at least 12 characters; - for standard input')
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep backup /Volumes/stick/lab.backup --passphrase-file passphrase.txt\n  minikeep init --restore lab.backup --passphrase-file passphrase.txt    on the machine that takes over',
    )
    .action(async (file: string, flags: BackupFlags) => {
      const { backup } = await import('./commands/backup.ts');
      ended(await backup(context, file, flags));
    });
  program
    .command('start')
    .summary('run this node')
    .description(
      'Runs this node in the foreground: its agent, and the coordinator where it is one. A part that dies is started again. Ctrl-C ends all in order.',
    )
    .addOption(homeOption())
    .option(
      '--unsafe-no-sandbox',
      'run the engines without a sandbox: they may then do all that you may',
    )
    .option(
      '--no-discovery',
      'this time, neither announce the cluster on the local network (Bonjour) nor look for it',
    )
    .addOption(acceptChangedOption())
    .option(
      '--background',
      'leave it running and return once it listens, where nothing manages services (else: minikeep service install)',
    )
    .addOption(networkOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep start\n  minikeep start --home /srv/minikeep --verbose\n  minikeep start --background',
    )
    .action(async (flags: StartFlags) => {
      if (flags.background === true) {
        const { startInBackground } = await import('./commands/background.ts');
        ended(await startInBackground(context, flags));
        return;
      }
      const { start } = await import('./commands/start.ts');
      ended(await start(context, flags));
    });
  program
    .command('invite')
    .summary('let one machine join')
    .description('Makes a single-use token and prints what to type on the machine that joins.')
    .addOption(homeOption())
    .addOption(
      new Option('--expires <time>', 'how long the token is good: 90s, 30m, 12h or 2d')
        .argParser(read.duration(1, 7 * 86_400))
        .default(1_800, '30m'),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep invite\n  minikeep invite --expires 2h --json | jq -r .token > token.txt',
    )
    .action(async (flags: InviteFlags) => {
      const { invite } = await import('./commands/invite.ts');
      ended(await invite(context, flags));
    });
  program
    .command('join')
    .summary('make this machine a node')
    .description(
      "Makes this machine a node of the cluster that the token is for. Looks at who answers first, and sends nothing to anybody but the cluster's coordinator. A join that was cut is repeated with the same token. A node that was away past its certificate's end joins again with a new one, and keeps its slices.",
    )
    .argument(
      '[address]',
      'the coordinator, HOST or HOST:PORT (default: looked for on this network)',
    )
    .addOption(homeOption())
    .requiredOption('--token-file <file>', 'what `minikeep invite` printed; - reads it from stdin')
    .option('--name <name>', "this machine's name in the cluster (default: its host name)")
    .option('--listen <address>', "where this node's agent listens (default: every address)")
    .option(
      '--no-discovery',
      'never look for the cluster on the local network (Bonjour), now and later',
    )
    .addOption(networkOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep join 192.168.1.20 --token-file -\n  minikeep join --token-file token.txt --name mini-2',
    )
    .action(async (address: string | undefined, flags: JoinFlags) => {
      const { join } = await import('./commands/join.ts');
      ended(await join(context, address, flags));
    });
  program
    .command('nodes')
    .summary('who belongs to the cluster')
    .description('Shows the nodes: whether they are there, where, their memory and their sandbox.')
    .addOption(homeOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep nodes\n  minikeep nodes --json | jq -r .nodes[].name',
    )
    .action(async (flags: HomeFlags) => {
      const { nodes } = await import('./commands/nodes.ts');
      ended(await nodes(context, flags));
    });
  const node = program
    .command('node')
    .summary('take a node out of service')
    .description('Takes a node out of service.');
  node
    .command('remove')
    .summary('shut a node out for good')
    .description(
      'Shuts a node out: from now on no node and no coordinator answers it, and calls that run are ended. It can only come back with a new token. The models that it held start again on the other nodes; refuses before it touches anything when they have no room.',
    )
    .argument('<name>', 'which node')
    .option('--force', 'also when the other nodes have no room for what it held: that waits then')
    .addOption(homeOption())
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep node remove mini-3\n  minikeep node remove mini-3 --force',
    )
    .action(async (name: string, flags: RemoveFlags) => {
      const { removeNode } = await import('./commands/nodes.ts');
      ended(await removeNode(context, name, flags));
    });
  node
    .command('drain')
    .summary('take a node out of service, without losing an answer')
    .description(
      'Takes a node out of service: new requests wait, running answers end, the models that use it start again without it, and serve what waited. Refuses before it touches anything when the other nodes have no room.',
    )
    .argument('<name>', 'which node')
    .addOption(homeOption())
    .addOption(
      new Option('--timeout <time>', 'how long running answers may go on')
        .argParser(read.duration(1, 86_400))
        .default(300, '5m'),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep node drain mini-3\n  minikeep node drain mini-3 --timeout 30s',
    )
    .action(async (name: string, flags: DrainFlags) => {
      const { drain } = await import('./commands/drain.ts');
      ended(await drain(context, name, flags));
    });
  node
    .command('resume')
    .summary('take a node into service again')
    .description('Takes a drained node into service again.')
    .argument('<name>', 'which node')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep node resume mini-3')
    .action(async (name: string, flags: HomeFlags) => {
      const { resume } = await import('./commands/drain.ts');
      ended(await resume(context, name, flags));
    });
  program
    .command('up')
    .summary('bring a model up on the cluster')
    .description(
      'Places the layers of an imported model over the nodes, tries the sandbox on each, sends the slices, loads and connects them. From then on the model is wanted: whatever is restarted, it comes back by itself.',
    )
    .argument('<name>', 'an imported model (minikeep model list)')
    .addOption(homeOption())
    .addOption(
      new Option('--nodes <names>', 'only these, in the order of the stages: a,b,c').argParser(
        (text) => text.split(',').map((part) => part.trim()),
      ),
    )
    .addOption(
      new Option('--cuts <layers>', 'first layers of the second, third … stage').argParser(
        read.cuts,
      ),
    )
    .addOption(
      new Option('--context <tokens>', 'tokens of context of each conversation').argParser(
        read.integer(16, CONTEXT_MAX),
      ),
    )
    .addOption(
      new Option('--parallel <n>', 'conversations at once')
        .argParser(read.integer(1, PARALLEL_MAX))
        .default(4),
    )
    .addOption(
      new Option(
        '--threads <n>',
        "threads of each engine (default: half of the smallest node's cores)",
      ).argParser(read.integer(1, THREADS_MAX)),
    )
    .addOption(
      new Option(
        '--mode <mode>',
        'exact: the same logits alone and in a crowd; fast: flash attention',
      )
        .choices(['exact', 'fast'])
        .default('exact'),
    )
    .option('--no-canary', 'do not try the sandbox first')
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep up deepseek-r1\n  minikeep up qwen3-32b --context 8192 --parallel 2',
    )
    .action(async (name: string, flags: UpFlags) => {
      const { up } = await import('./commands/up.ts');
      ended(await up(context, name, flags));
    });
  program
    .command('down')
    .summary('take a model down')
    .description('Ends the engines of a model; its layers stay on the nodes for the next time.')
    .argument('<name>', 'which model')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep down deepseek-r1')
    .action(async (name: string, flags: HomeFlags) => {
      const { down } = await import('./commands/up.ts');
      ended(await down(context, name, flags));
    });
  program
    .command('status')
    .summary('what is going on')
    .description('Shows the cluster: nodes, deployments, seal, violations.')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep status\n  minikeep status --json | jq .sealed')
    .action(async (flags: HomeFlags) => {
      const { status } = await import('./commands/status.ts');
      ended(await status(context, flags));
    });
  program
    .command('events')
    .summary("the cluster's log")
    .description(
      'Shows the newest entries of the event log, oldest first. Each is chained to the one before it by SHA-256.',
    )
    .addOption(homeOption())
    .option('--follow', 'go on with new ones as they happen')
    .addOption(
      new Option('--from <number>', 'begin with this entry').argParser(read.integer(1, 2 ** 40)),
    )
    .addOption(
      new Option('--count <n>', 'how many at most')
        .argParser(read.integer(1, EVENTS_MAX))
        .default(100),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  minikeep events --follow\n  minikeep events --from 1 --count 10000 --json',
    )
    .action(async (flags: EventsFlags) => {
      const { events } = await import('./commands/events.ts');
      ended(await events(context, flags));
    });
  addOutputGuard(program, context, ended);
}
