/** Prints an error in its one form: what happened, and what to do next; one line of JSON under --json. */
import { EXIT, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import type { CommanderError } from 'commander';
import { safeJson, safeLine } from './safe-text.ts';

/** What commander says, as an error of ours; its own codes are an implementation detail. */
export function fromCommander(error: CommanderError, command: string): MinikeepError {
  const what = error.code
    .replace(/^commander\./, '')
    .replaceAll(/([A-Z])/g, (c) => `_${c.toLowerCase()}`);
  return new MinikeepError(
    `usage.${what}`,
    error.message.replace(/^error: /, '').replaceAll('\n', ' '),
    {
      next:
        error.code === 'commander.excessArguments' && command === 'minikeep run'
          ? 'Put a prompt of several words in quotes: minikeep run "What is a stage?"'
          : `${command} --help`,
      exitCode: EXIT.usage,
    },
  );
}

export function reportError(
  thrown: unknown,
  options: {
    readonly json: boolean;
    readonly verbose: boolean;
    readonly stderr: NodeJS.WriteStream;
  },
): MinikeepError {
  const error = toMinikeepError(thrown);
  const { stderr } = options;
  if (options.json) stderr.write(`${safeJson(error.toJSON())}\n`);
  else {
    const colour = stderr.isTTY && !process.env['NO_COLOR'];
    const label = colour ? `\u001b[31merror\u001b[0m` : 'error';
    stderr.write(`${label} ${error.code}: ${safeLine(error.message, 4_000)}\n`);
    stderr.write(`  next: ${safeLine(error.next, 4_000)}\n`);
    if (options.verbose)
      for (let e: unknown = error; e instanceof Error; e = e.cause)
        for (const line of (e.stack ?? e.message).split('\n'))
          stderr.write(`  ${safeLine(line, 1_000)}\n`);
  }
  return error;
}
