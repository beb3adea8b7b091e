/** Before anything is started: is every executable part what it should be? */
import { changedPrograms, type ChangedProgram } from '@minikeep/bundle';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { CommandContext } from './command-context.ts';
import { safeLine } from './safe-text.ts';

const SHOWN_MAX = 8;

/** Returns what differs and was accepted. Throws `supply.changed`, `supply.no_list`. */
export async function checkPrograms(
  { terminal, distFolder }: Pick<CommandContext, 'terminal' | 'distFolder'>,
  { acceptChanged, json }: { readonly acceptChanged: boolean; readonly json: boolean },
  signal: AbortSignal,
): Promise<readonly ChangedProgram[]> {
  const changed = await changedPrograms(distFolder, process.execPath, signal);
  const [first] = changed;
  if (first === undefined) return changed;
  if (!acceptChanged) throw differs(first, changed.length);
  if (!json)
    for (const one of changed.slice(0, SHOWN_MAX))
      terminal.note(safeLine(`warning: ${words(one)}; accepted by --accept-changed`, 400));
  return changed;
}

const words = ({ file, expected, found }: ChangedProgram): string =>
  expected === ''
    ? `${file} should not be there (SHA-256 ${found})`
    : `${file} has SHA-256 ${found === '' ? 'none: it is missing' : found}, not ${expected}`;

function differs(first: ChangedProgram, count: number): MinikeepError {
  const more = count > 1 ? `, and ${count - 1} more differ` : '';
  return new MinikeepError('supply.changed', `${words(first)}${more}`, {
    next: 'Install the bundle again (in a checkout: npm run build). If you changed it yourself: start and run take --accept-changed, which is recorded.',
    exitCode: EXIT.checkFailed,
    details: { file: first.file, expected: first.expected, found: first.found },
  });
}
