/**
 * macOS's commands for tests on Linux: `sandbox-exec` writes down what it was given and becomes the program (it
 * refuses nothing), `log stream` repeats a file of lines. The lines have the recorded form of the design notes on
 * containment; the trial that the watch makes for itself is answered with such a line.
 */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdtempSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Commands, MACOS_COMMANDS } from '../../src/darwin/commands.ts';

export const HEADER = 'Filtering the log data using "senderImagePath CONTAINS[c] \\"sandbox\\""\n';

/** One event of `log stream --style ndjson`. */
export const logEvent = (message: string, tag: string): string =>
  `${JSON.stringify({
    processID: 0,
    processImagePath: '/kernel',
    senderImagePath: '/System/Library/Extensions/Sandbox.kext/Contents/MacOS/Sandbox',
    messageType: 'Error',
    eventMessage: `${message}\n${tag}`,
  })}\n`;

const SANDBOX_EXEC = `#!/bin/sh
here=\${0%/*}
PATH=/usr/bin:/bin
case "$3" in
*/cat)
  [ -e "$here/silent" ] && exit 1
  tag=$(printf '%s' "$2" | sed -n 's/.*with message "\\(mk-[0-9a-f]*\\)".*/\\1/p')
  printf '{"processID":0,"processImagePath":"/kernel","senderImagePath":"/System/Library/Extensions/Sandbox.kext/Contents/MacOS/Sandbox","eventMessage":"Sandbox: cat(77) deny(1) file-read-data /private/etc/hosts\\\\n%s"}\\n' "$tag" >>"$here/log.ndjson"
  exit 1 ;;
esac
# Files can't grow under the engine's limits, pipes can.
{ printf '%s\\0' "core $(ulimit -H -c)" "files $(ulimit -H -n)" "size $(ulimit -H -f)" --; env -0; printf '%s\\0' -- "$@"; } >"$here/given"
PATH=/nonexistent
shift 2
exec "$@"
`;
const LOG = `#!/bin/sh
here=\${0%/*}
exec /usr/bin/tail -n +1 -s 0.02 -f "$here/log.ndjson"
`;

export interface StandIns {
  readonly folder: string;
  readonly commands: Commands;
  /** Appends to what `log stream` says. */
  log(text: string): void;
  /** What the engine's sandbox-exec was given, once it was. */
  readonly given: Promise<Given>;
  /** The macOS warden as a program of its own, with these commands. */
  readonly warden: string;
  /** Trials are refused but no longer logged. */
  silence(): void;
}

export interface Given {
  readonly limits: readonly string[];
  readonly env: readonly string[];
  readonly argv: readonly string[];
}

const source = (file: string): string => new URL(file, import.meta.url).href;

async function given(pipe: string): Promise<Given> {
  const parts = (await readFile(pipe, 'utf8')).split('\0').slice(0, -1);
  const [first, second] = [parts.indexOf('--'), parts.indexOf('--', parts.indexOf('--') + 1)];
  return {
    limits: parts.slice(0, first),
    env: parts.slice(first + 1, second),
    argv: parts.slice(second + 1),
  };
}

export function standIns(): StandIns {
  const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'minikeep-darwin-')));
  const sandboxExec = path.join(folder, 'sandbox-exec');
  const log = path.join(folder, 'log');
  writeFileSync(sandboxExec, SANDBOX_EXEC);
  writeFileSync(log, LOG);
  chmodSync(sandboxExec, 0o755);
  chmodSync(log, 0o755);
  const lines = path.join(folder, 'log.ndjson');
  if (!existsSync(lines)) writeFileSync(lines, HEADER);
  const pipe = path.join(folder, 'given');
  execFileSync('mkfifo', [pipe]);
  const warden = path.join(folder, 'warden.ts');
  writeFileSync(
    warden,
    `import { serveSeatbelt } from '${source('../../src/darwin/warden.ts')}';
import { standInCommands } from '${source('stand-ins.ts')}';
serveSeatbelt(standInCommands(${JSON.stringify(folder)}));
`,
  );
  return {
    folder,
    commands: standInCommands(folder),
    given: given(pipe),
    warden,
    log: (text) => appendFileSync(lines, text),
    silence: () => writeFileSync(path.join(folder, 'silent'), ''),
  };
}

/** The same commands in another process, found again by their folder. */
export const standInCommands = (folder: string): Commands => ({
  ...MACOS_COMMANDS,
  sandboxExec: path.join(folder, 'sandbox-exec'),
  log: path.join(folder, 'log'),
});
