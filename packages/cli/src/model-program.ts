/** What can be typed after `minikeep model`. */
import { Option, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { ModelCheckFlags } from './commands/model-check.ts';
import type { ModelImportFlags } from './commands/model-import.ts';
import type { ModelShowFlags } from './commands/model-show.ts';
import { CHECK_TOKENS_MAX, LOCAL_NODES_DEFAULT, STAGES_MAX } from './defaults.ts';
import type { HomeFlags } from './home-folder.ts';
import * as read from './options.ts';
import {
  cutsOption,
  homeOption,
  modeOption,
  threadsOption,
  unsafeOption,
} from './shared-options.ts';

export function addModel(
  program: Command,
  context: CommandContext,
  ended: (exitCode: number) => void,
): void {
  const model = program
    .command('model')
    .summary('look into model files; the models of a cluster')
    .description(
      'Looks into model files, checks that they can be split, and keeps the list of models that a cluster knows.',
    );
  model
    .command('show')
    .summary('what is in a model file')
    .description(
      'Shows what is in a GGUF file: architecture, layers, parameters, quantisation, licence, template, tokenizer, context, size and SHA-256. Checks the header; runs nothing of the file.',
    )
    .argument('<file>', 'a GGUF file (of a split model, its first part), or a known name')
    .option('--template', 'print the chat template and nothing else')
    .addHelpText(
      'after',
      `
Examples:
  minikeep model show ./model.gguf
  minikeep model show ./model.gguf --json | jq .sha256`,
    )
    .action(async (file: string, flags: ModelShowFlags) => {
      const { modelShow } = await import('./commands/model-show.ts');
      ended(await modelShow(context, file, flags));
    });
  model
    .command('check')
    .summary('prove that the split computes what the whole does')
    .description(
      'Computes with the whole model and with the split one on this machine, and compares the logits bit by bit at every step, in equal chunks. Feeds token ids of its own choice. Exit 3 if a single one differs, 1 with a reason if this model or cut is refused.',
    )
    .argument('<file>', 'a GGUF file (of a split model, its first part), or a known name')
    .addOption(
      new Option(
        '--stages <n>',
        `stages, cut where a plan would (default: ${LOCAL_NODES_DEFAULT})`,
      ).argParser(read.integer(1, STAGES_MAX)),
    )
    .addOption(cutsOption())
    .option('--every-cut', 'every cut that the model allows, one after the other')
    .addOption(
      new Option('--prompt-tokens <n>', 'tokens of the prompt')
        .argParser(read.integer(2, CHECK_TOKENS_MAX))
        .default(64),
    )
    .addOption(
      new Option('--tokens <n>', 'single tokens after it')
        .argParser(read.integer(0, CHECK_TOKENS_MAX))
        .default(16),
    )
    .addOption(threadsOption())
    .addOption(modeOption())
    .addOption(unsafeOption())
    .addHelpText(
      'after',
      `
Examples:
  minikeep model check ./model.gguf --stages 3
  minikeep model check ./model.gguf --cuts 10,20 --prompt-tokens 300
  minikeep model check ./model.gguf --every-cut --json`,
    )
    .action(async (file: string, flags: ModelCheckFlags) => {
      const { modelCheck } = await import('./commands/model-check.ts');
      ended(await modelCheck(context, file, flags));
    });
  model
    .command('import')
    .summary('take a model into a cluster')
    .description(
      'Checks and hashes a GGUF file and shows what would run: licence, template, tokenizer, quantisation. It is taken in only when that is accepted: at the terminal, with --yes, or with --sha256, which refuses anything else. The files stay where they are unless --copy is given.',
    )
    .argument('<file>', 'a GGUF file, any part of a split model, or a folder with one model')
    .addOption(homeOption())
    .option('--name <name>', 'what the cluster calls it (default: made of the file’s name)')
    .option('--copy', 'copy the files into the home')
    .option('--yes', 'accept what is shown')
    .option('--sha256 <digest>', 'accept only a file with this SHA-256')
    .addHelpText(
      'after',
      `
Examples:
  minikeep model import /Volumes/STICK/model.gguf
  minikeep model import ./models/r1/ --name r1 --sha256 "$(cut -c1-64 r1.sha256)" --json`,
    )
    .action(async (file: string, flags: ModelImportFlags) => {
      const { modelImport } = await import('./commands/model-import.ts');
      ended(await modelImport(context, file, flags));
    });
  model
    .command('list')
    .summary('the models that a cluster knows')
    .description('Lists imported models, and whether their files are there now.')
    .addOption(homeOption())
    .addHelpText(
      'after',
      "\nExamples:\n  minikeep model list\n  minikeep model list --json | jq -r '.models[].name'",
    )
    .action(async (flags: HomeFlags) => {
      const { modelList } = await import('./commands/model-list.ts');
      ended(await modelList(context, flags));
    });
  model
    .command('rm')
    .summary('forget a model')
    .description(
      'Takes a model off the list. A copy that import made is removed; a file that was only named stays.',
    )
    .argument('<name>', 'as model list shows it')
    .addOption(homeOption())
    .addHelpText('after', '\nExamples:\n  minikeep model rm r1')
    .action(async (name: string, flags: HomeFlags) => {
      const { modelRemove } = await import('./commands/model-list.ts');
      ended(await modelRemove(context, name, flags));
    });
}
