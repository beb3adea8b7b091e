/** Commands, flags and help. What a command does is in commands/; this file only says what can be typed. */
import { Command, Option } from 'commander';
import type { CommandContext } from './command-context.ts';
import { modelShow, type ModelShowFlags } from './commands/model-show.ts';
import { planCommand, type PlanFlags } from './commands/plan.ts';
import { CONTEXT_MAX, LOCAL_NODES_DEFAULT, LOCAL_NODES_MAX, PARALLEL_MAX } from './defaults.ts';
import * as read from './options.ts';

export const VERSION = '0.1.0';

/** Every command ends by handing its exit code to `ended`. */
export function makeProgram(context: CommandContext, ended: (exitCode: number) => void): Command {
  const program = new Command('minikeep')
    .description(
      'Runs one large model on several small machines, split by layers, every engine in a sandbox.',
    )
    .version(VERSION, '--version', 'print the version')
    .helpOption('-h, --help', 'show what a command does and how')
    .helpCommand('help [command]', 'the same as --help')
    .addHelpText(
      'after',
      `
Examples:
  minikeep run "Why is the sky blue?"            ask the embedded model
  minikeep run ./model.gguf "Hello" --local 3    ask a file, split over three nodes
  minikeep canary                                prove that the sandbox holds here

Errors have a code and say what to do next. Exit codes: 0 ok, 1 failed, 2 usage,
3 a check failed, 4 unreachable, 5 denied or expired, 130 interrupted.`,
    );
  addPlan(program, context, ended);
  addModel(program, context, ended);
  return program;
}

const jsonOption = (): Option =>
  new Option('--json', 'print JSON on stdout, errors as JSON on stderr');
const verboseOption = (): Option => new Option('--verbose', 'say more on stderr');
const cutsOption = (): Option =>
  new Option(
    '--cuts <layers>',
    'first layers of the second, third … stage, for example 10,20',
  ).argParser(read.cuts);
const localOption = (): Option =>
  new Option(
    '--local <nodes>',
    `nodes of a cluster on this machine (default: ${LOCAL_NODES_DEFAULT})`,
  ).argParser(read.integer(1, LOCAL_NODES_MAX));
const contextOption = (): Option =>
  new Option(
    '--context <tokens>',
    'tokens of context (default: what the model has, at most 4096)',
  ).argParser(read.integer(16, CONTEXT_MAX));
const modeOption = (): Option =>
  new Option('--mode <mode>', 'exact: the same logits alone and in a crowd; fast: flash attention')
    .choices(['exact', 'fast'])
    .default('exact');

type Ended = (exitCode: number) => void;

function addPlan(program: Command, context: CommandContext, ended: Ended): void {
  program
    .command('plan')
    .summary('where the layers would go, and whether they fit')
    .description(
      'Shows where the layers of a model would go: weights, KV cache and compute buffers against the memory of each node. Loads nothing.',
    )
    .argument('<model>', 'a GGUF file')
    .option('--nodes <file>', 'a cluster file (YAML)')
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
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText(
      'after',
      `
A cluster file:
  nodes:
    - { name: mini-1, memory: 24 GiB }
    - { name: mini-2, memory: 64 GiB, memory_per_second: 273 GB }
    - { name: box, platform: linux, memory: 32 GiB, budget: 28 GiB }

Examples:
  minikeep plan ./model.gguf --local 3 --explain
  minikeep plan ./model.gguf --nodes cluster.yaml --context 32768 --json`,
    )
    .action(async (model: string, flags: PlanFlags) =>
      ended(await planCommand(context, model, flags)),
    );
}

function addModel(program: Command, context: CommandContext, ended: Ended): void {
  const model = program
    .command('model')
    .summary('look into model files')
    .description('Looks into model files.');
  model
    .command('show')
    .summary('what is in a model file')
    .description(
      'Shows what is in a GGUF file: architecture, layers, parameters, quantisation, licence, template, tokenizer, context, size and SHA-256. Checks the header; runs nothing of the file.',
    )
    .argument('<file>', 'a GGUF file; of a split model, its first part')
    .option('--template', 'print the chat template and nothing else')
    .addOption(jsonOption())
    .addOption(verboseOption())
    .addHelpText(
      'after',
      `
Examples:
  minikeep model show ./model.gguf
  minikeep model show ./model.gguf --json | jq .sha256`,
    )
    .action(async (file: string, flags: ModelShowFlags) =>
      ended(await modelShow(context, file, flags)),
    );
}
