/** What can be typed after `minikeep bundle`. */
import { Option, type Command } from 'commander';
import type { CommandContext } from './command-context.ts';
import type { BundleFlags } from './commands/bundle.ts';

export function addBundle(
  program: Command,
  context: CommandContext,
  ended: (exitCode: number) => void,
): void {
  program
    .command('bundle')
    .summary('everything that a machine without the internet needs, in one archive')
    .description(
      'Packs the pinned Node, the programs, the libraries of the engine, licences, a bill of materials and every file’s SHA-256 into one .tar.gz, on any machine for either platform, and prints the digest of the archive. The same version packed again gives the same bytes (advisories are asked anew each day: --advisories takes an earlier answer). The files for another platform are fetched by npm and compared with what was pinned.',
    )
    .argument('<file>', 'the archive to write, for example minikeep-darwin-arm64.tar.gz')
    .addOption(
      new Option(
        '--platform <platform>',
        'for which machines (default: those like this one)',
      ).choices(['darwin-arm64', 'linux-x64']),
    )
    .option(
      '--with-model <name|path>',
      'take a model along: a GGUF file, or a model of the cluster',
    )
    .option('--home <dir>', 'the home of that cluster (default: MINIKEEP_HOME)')
    .option('--packages <dir>', 'a folder with the archives of the packages, instead of npm')
    .option('--advisories <file>', 'the advisories.json of an earlier bundle, instead of asking')
    .addHelpText(
      'after',
      `
Examples:
  minikeep bundle ./minikeep-linux.tar.gz --platform linux-x64
  minikeep bundle ./minikeep-mac.tar.gz --platform darwin-arm64 --with-model ./model.gguf

On the other machine, with the digest that this printed (typed or read from paper, not from the same disk):
  tar -xzOf minikeep-mac.tar.gz minikeep/install.sh > install.sh
  sh install.sh minikeep-mac.tar.gz --digest SHA256`,
    )
    .action(async (file: string, flags: BundleFlags) => {
      const { bundle } = await import('./commands/bundle.ts');
      ended(await bundle(context, file, flags));
    });
}
