/**
 * What an installation does to a machine, as data: shown by --dry-run, carried out by apply.ts, and undone from the
 * record of what was carried out. Every command is an absolute program and its arguments; no shell reads them.
 */

export type Argv = readonly [program: string, ...args: string[]];

/** How a change is taken back. `gone`: exit codes that say there is nothing to take back. */
export type Undo =
  | {
      readonly kind: 'run';
      readonly what: string;
      readonly argv: Argv;
      readonly gone?: readonly number[] | undefined;
    }
  | {
      readonly kind: 'file';
      readonly what: string;
      readonly path: string;
      /** What was there before; undefined: nothing. */
      readonly before?: { readonly content: string; readonly mode: number } | undefined;
    };

export type Change =
  | {
      readonly kind: 'file';
      readonly what: string;
      readonly path: string;
      readonly content: string;
      readonly mode: number;
    }
  | {
      readonly kind: 'run';
      readonly what: string;
      /** Undefined: nothing to do now, only when it is taken back. */
      readonly argv?: Argv | undefined;
      readonly undo: readonly Undo[];
    }
  | {
      /** Looked at until it is so; when it does not become so, all is undone. */
      readonly kind: 'check';
      readonly what: string;
      readonly argv: Argv;
      readonly expect: RegExp;
      /** Shows what went wrong. */
      readonly log?: Argv | undefined;
    };

export const run = (
  what: string,
  argv: Argv | undefined,
  ...undo: readonly Undo[]
): Change & { kind: 'run' } => ({ kind: 'run', what, argv, undo });

export const undoBy = (what: string, argv: Argv, gone?: readonly number[]): Undo => ({
  kind: 'run',
  what,
  argv,
  gone,
});

/** A command as a person could type it. */
export const typed = (argv: readonly string[]): string =>
  argv
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
    .join(' ');

/** Every file in full and every command: nothing is done that is not in these lines. */
export function describeChange(change: Change): string[] {
  const lines = [`# ${change.what}`];
  if (change.kind === 'file') {
    lines.push(`write ${change.path} (mode ${change.mode.toString(8).padStart(4, '0')})`);
    lines.push(
      ...change.content
        .trimEnd()
        .split('\n')
        .map((line) => `  | ${line}`),
    );
  } else if (change.kind === 'check')
    lines.push(`check ${typed(change.argv)}   (until it says ${change.expect.source})`);
  else {
    if (change.argv !== undefined) lines.push(`run ${typed(change.argv)}`);
    for (const one of change.undo) lines.push(`  undone by: ${describeUndo(one)}`);
  }
  return lines;
}

export const describeUndo = (undo: Undo): string =>
  undo.kind === 'run'
    ? typed(undo.argv)
    : undo.before === undefined
      ? `remove ${undo.path}`
      : `put ${undo.path} back as it was`;
