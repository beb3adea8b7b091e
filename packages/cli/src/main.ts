#!/usr/bin/env node
/** The command line's process: streams, signals, exit code. Everything it can end with passes through here. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { CommanderError, type Command } from 'commander';
import { Interrupts } from './interrupts.ts';
import { makeProgram } from './program.ts';
import { fromCommander, reportError } from './report-error.ts';
import { Terminal } from './terminal.ts';

// Other users of the machine see every process's arguments, and a prompt is one. This writes over them.
process.title = 'minikeep';
const terminal = new Terminal(process);
const interrupts = new Interrupts();
const argv = process.argv.slice(2);
const json = argv.includes('--json');
const verbose = argv.includes('--verbose');

function report(thrown: unknown): number {
  return reportError(thrown, { json, verbose, stderr: process.stderr }).exitCode;
}

/** Faults that no command caught: said in the same form, and nothing is left behind. */
for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (thrown: unknown) => interrupts.leave(report(thrown)));

/** Help that commander wanted on stderr, because no command was given. */
let helpText = '';

/** commander throws instead of leaving, and says nothing by itself but help that was asked for. */
function quiet(command: Command): void {
  command.exitOverride().configureOutput({
    writeErr: (text) => {
      helpText += text;
    },
    outputError: () => {},
  });
  for (const part of command.commands) quiet(part);
}

/** The command that the arguments name, for messages: "minikeep model show". */
function commandPath(program: Command): string {
  const names = ['minikeep'];
  let at: Command | undefined = program;
  for (const word of argv) {
    at = at.commands.find((c) => c.name() === word);
    if (at === undefined) break;
    names.push(word);
  }
  return names.join(' ');
}

/** `help nonsense`: commander would show the general help and say nothing. */
function unknownCommand(program: Command): MinikeepError | undefined {
  if (argv[0] !== 'help') return undefined;
  let at = program;
  for (const word of argv.slice(1).filter((part) => !part.startsWith('-'))) {
    const found = at.commands.find((c) => c.name() === word);
    if (found === undefined)
      return new MinikeepError('usage.unknown_command', `unknown command '${word}'`, {
        next: 'minikeep --help',
        exitCode: EXIT.usage,
      });
    at = found;
  }
  return undefined;
}

function helpOrUsage(error: CommanderError, program: Command): number {
  if (error.exitCode === 0) return EXIT.ok;
  // `minikeep` and `minikeep model` alone.
  if (error.code === 'commander.help') {
    const unknown = unknownCommand(program);
    if (unknown !== undefined) return report(unknown);
    process.stderr.write(helpText);
    return EXIT.usage;
  }
  return report(fromCommander(error, commandPath(program)));
}

async function main(): Promise<number> {
  let exitCode: number = EXIT.ok;
  const context = { terminal, interrupts, distFolder: import.meta.dirname };
  const program = makeProgram(context, (code) => (exitCode = code));
  quiet(program);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return helpOrUsage(thrown, program);
    // The reader of our output left (head, a closed pager): it has all it wanted.
    if (terminal.outputClosed.aborted) return EXIT.ok;
    const { reason } = interrupts.signal;
    return report(reason instanceof MinikeepError ? reason : thrown);
  }
}

interrupts.install(process);
process.exitCode = await main();
// Whatever still listens (a terminal, a pipe) must not keep a finished command alive.
process.stdout.write('', () => process.stderr.write('', () => process.exit()));
