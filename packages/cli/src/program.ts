/**
 * Commands, flags and help. What a command does is in commands/; this file only says what can be typed. A command's
 * code is loaded when it is called, so that help and usage errors come at once.
 */
import {
  DEFAULT_SAMPLING,
  MINIKEEP_VERSION,
  STOP_STRING_LENGTH_MAX,
  STOP_STRINGS_MAX,
} from '@minikeep/protocol';
import { Command, Option } from 'commander';
import { addBootstrap } from './bootstrap-program.ts';
import { addBundle } from './bundle-program.ts';
import { addClusterCommands } from './cluster-program.ts';
import type { CanaryFlags } from './commands/canary.ts';
import type { CommandContext } from './command-context.ts';
import type { DemoFlags } from './commands/demo.ts';
import type { PlanFlags } from './commands/plan.ts';
import type { RunFlags } from './commands/ready.ts';
import { PARALLEL_MAX, SEED_MAX, TOKENS_MAX } from './defaults.ts';
import { addMachine } from './machine-program.ts';
import { addModel } from './model-program.ts';
import { addSeal } from './seal-program.ts';
import { addService } from './service-program.ts';
import * as read from './options.ts';
import {
  contextOption,
  cutsOption,
  localOption,
  modeOption,
  acceptChangedOption,
  outputGuardOption,
  threadsOption,
  unsafeOption,
} from './shared-options.ts';

/** Every command ends by handing its exit code to `ended`. */
export function makeProgram(context: CommandContext, ended: (exitCode: number) => void): Command {
  const program = new Command('minikeep')
    .description(
      'Runs one large model on several small machines, split by layers, every engine in a sandbox.',
    )
    .version(MINIKEEP_VERSION, '--version', 'print the version')
    .helpOption('-h, --help', 'show what a command does and how')
    .helpCommand('help [command]', 'the same as --help')
    .addHelpText(
      'after',
      `
Examples:
  minikeep run "What is a stage?"                ask the embedded model
  minikeep run ./model.gguf "Hello" --local 3    ask a file, split over three nodes
  minikeep canary                                prove that the sandbox holds here

Errors have a code and say what to do next. Exit codes: 0 ok, 1 failed, 2 usage,
3 a check failed, 4 unreachable, 5 denied or expired, 130 interrupted.`,
    );
  addRun(program, context, ended);
  addPlan(program, context, ended);
  addModel(program, context, ended);
  addCanary(program, context, ended);
  addBundle(program, context, ended);
  addBootstrap(program, context, ended);
  addMachine(program, context, ended);
  addDemo(program, context, ended);
  addClusterCommands(program, context, ended);
  addSeal(program, context, ended);
  addService(program, context, ended);
  for (const command of leaves(program)) {
    if (command.name() !== DEMO) command.addOption(jsonOption());
    command.addOption(verboseOption());
  }
  return program;
}

/** A show for people: it has nothing to print for programs. */
const DEMO = 'demo';

const leaves = (command: Command): Command[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);

const jsonOption = (): Option =>
  new Option('--json', 'print JSON on stdout, errors as JSON on stderr');
const verboseOption = (): Option => new Option('--verbose', 'say more on stderr');

type Ended = (exitCode: number) => void;

function addRun(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('run')
    .summary('ask a model, split over the nodes of a cluster on this machine')
    .description(
      'Starts a throw-away cluster on this machine, splits the model over its nodes, answers, and removes everything again; with --home, asks the cluster of that home. Without PROMPT on a terminal: a chat. A single argument is a MODEL if it names a known model, contains / or ends in .gguf; else it is the PROMPT for the embedded model.',
    )
    .argument('[model]', 'a GGUF file, or a known name')
    .argument(
      '[prompt]',
      'what to ask; - reads it from stdin, which nobody else sees (arguments show in ps)',
    )
    .addOption(localOption())
    .addOption(cutsOption())
    .addOption(contextOption())
    .addOption(modeOption())
    .addOption(threadsOption())
    .option('--system <text>', 'a system message before the prompt')
    .addOption(acceptChangedOption())
    .addOption(outputGuardOption("this answer (default: the cluster's, else defang)"))
    .option('--raw', 'feed the prompt as it is, without the chat template')
    .addOption(
      new Option('--max-tokens <n>', 'end the answer after n tokens').argParser(
        read.integer(1, TOKENS_MAX),
      ),
    )
    .addOption(
      new Option(
        '--temperature <t>',
        `0: always the most likely token (default: ${DEFAULT_SAMPLING.temperature}; of the embedded model: 0)`,
      ).argParser(read.decimal(0, 10)),
    )
    .addOption(
      new Option(
        '--top-k <k>',
        `choose among the k most likely; 0: all (default: ${DEFAULT_SAMPLING.top_k})`,
      ).argParser(read.integer(0, 1_000_000)),
    )
    .addOption(
      new Option(
        '--top-p <p>',
        `choose among the most likely that together reach p (default: ${DEFAULT_SAMPLING.top_p})`,
      ).argParser(read.decimal(0.001, 1)),
    )
    .addOption(
      new Option(
        '--min-p <p>',
        `drop what is less likely than p times the best (default: ${DEFAULT_SAMPLING.min_p})`,
      ).argParser(read.decimal(0, 1)),
    )
    .addOption(
      new Option(
        '--repeat-penalty <f>',
        `above 1: discourage repetition (default: ${DEFAULT_SAMPLING.repeat_penalty})`,
      ).argParser(read.decimal(0.1, 10)),
    )
    .addOption(
      new Option('--seed <n>', 'the same seed gives the same answer (default: random)').argParser(
        read.integer(0, SEED_MAX),
      ),
    )
    .addOption(
      new Option('--stop <text>', 'end before this text; may be given several times')
        .argParser(read.collect(STOP_STRINGS_MAX, STOP_STRING_LENGTH_MAX))
        .default([], 'none'),
    )
    .addOption(unsafeOption())
    .option(
      '--home <folder>',
      'ask a model that is up on the cluster of this home (MINIKEEP_HOME does the same, unless MODEL is a file or --local is given)',
    )
    .addHelpText(
      'after',
      `
Examples:
  minikeep run "What is a stage?"
  minikeep run qwen3-32b "Hello" --home ~/.minikeep           a model that is up
  minikeep run ./model.gguf                                   a chat
  minikeep run ./model.gguf "Name three colours." --local 3 --temperature 0
  minikeep run ./model.gguf --cuts 10,20 - < question.txt
  minikeep run ./model.gguf "Hello" --json | jq -r 'select(.type=="token").text'`,
    )
    .action(async (first: string | undefined, second: string | undefined, flags: RunFlags) => {
      const { run } = await import('./commands/run.ts');
      ended(await run(context, first, second, flags));
    });
}

function addPlan(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('plan')
    .summary('where the layers would go, and whether they fit')
    .description(
      'Shows where the layers of a model would go: weights, KV cache and compute buffers against the memory of each node. Loads nothing.',
    )
    .argument('<model>', 'a GGUF file, a known name, or a published model: qwen3-32b@Q4_K_M')
    .option('--nodes <file>', 'a stack file (YAML): the machines of a cluster')
    .addOption(localOption())
    .addOption(cutsOption())
    .addOption(contextOption())
    .addOption(
      new Option('--parallel <sequences>', 'conversations at once')
        .argParser(read.integer(1, PARALLEL_MAX))
        .default(1),
    )
    .addOption(modeOption())
    .option('--explain', 'say why')
    .option('--home <folder>', 'on the nodes of that running cluster, as they are now')
    .option(
      '--measure',
      'measure the running cluster’s nodes first: some seconds each, kept for `up`',
    )
    .addHelpText(
      'after',
      `
A stack file (bootstrap reads the same):
  cluster: drawer
  nodes:
    - { name: mini-1, role: coordinator, hardware: { chip: M4, memory: 24 GiB } }
    - { name: mini-2, hardware: { chip: M4 Pro, memory: 64 GiB, wired_limit: 56 GiB } }
    - { name: box, platform: linux, hardware: { memory: 32 GiB, budget: 28 GiB } }
  network: { latency_seconds: 0.0002, bytes_per_second: 118 MB }

Examples:
  minikeep plan ./model.gguf --local 3 --explain
  minikeep plan deepseek-r1-671b@Q4_K_M --nodes cluster-configs/eight-m4-pro-64gb.yaml --explain
  minikeep plan qwen3-32b@Q4_K_M --measure --explain            on the running cluster, measured
  minikeep plan ./model.gguf --nodes stack.yaml --context 32768 --json`,
    )
    .action(async (model: string, flags: PlanFlags) => {
      const { planCommand } = await import('./commands/plan.ts');
      ended(await planCommand(context, model, flags));
    });
}

function addCanary(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('canary')
    .summary('prove that the sandbox holds, on this machine or on a node')
    .description(
      "Runs a harmless program of ours in an engine's sandbox. It tries every known way out: network, DNS, files, programs, signals, kernel interfaces. Exit 3 unless each attempt was refused and reported. In a container, whose own filter answers some calls before anything can report them, those are told apart (refused_outside) and don't fail it. With --node or --home it runs on nodes of the running cluster, where their engines run.",
    )
    .option('--node <name>', 'on that node of the cluster (with --home alone: on each)')
    .option(
      '--home <folder>',
      'the home of that cluster (default: MINIKEEP_HOME, else ~/.minikeep)',
    )
    .addHelpText(
      'after',
      `
Examples:
  minikeep canary
  minikeep canary --node mini-2                 on that node, asked of the cluster
  minikeep canary --verbose                     every attempt on its own line
  minikeep canary --json | jq '.attempts[] | select(.refused and (.reported or .refused_outside) | not)'`,
    )
    .action(async (flags: CanaryFlags) => {
      const { canary } = await import('./commands/canary.ts');
      ended(await canary(context, flags));
    });
}

function addDemo(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command(DEMO)
    .summary('three nodes answer, then a hostile program tries to get out')
    .description(
      "Starts three nodes on this machine, asks the model something, and lets a hostile program try to get out of an engine's sandbox. Says what was proven and what was not, and removes everything again.",
    )
    .option('--model <file>', 'another model than the embedded one')
    .option('--prompt <text>', 'another question')
    .addOption(new Option('--random', 'the model has random weights').hideHelp())
    .addHelpText('after', '\nExamples:\n  minikeep demo\n  minikeep demo --model ./model.gguf')
    .action(async (flags: DemoFlags) => {
      const { demo } = await import('./commands/demo.ts');
      ended(await demo(context, flags));
    });
}
