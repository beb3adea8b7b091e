/** Carries changes out, in order, each written down before it is made; undoes them when one fails. */
import { MinikeepError } from '@minikeep/protocol';
import { describeUndo, typed, type Change, type Undo } from './change.ts';
import { readBefore, type Machine } from './machine.ts';
import { RECORD_FILE, writeRecord, type ServiceRecord } from './record.ts';

const CHECK_MS_MAX = 30_000;
const CHECK_EVERY_MS = 250;
const OUTPUT_SHOWN_MAX = 1_500;

export interface ApplyOptions {
  readonly machine: Machine;
  /** Of an installation before, whose undo entries stay the first. */
  readonly record: ServiceRecord;
  readonly onChange: (what: string) => void;
  /** Looks whether all of it works; what it throws undoes this call's changes. */
  readonly lastly: () => Promise<void>;
  readonly signal: AbortSignal;
}

/** Throws `service.change_failed`, `service.check_failed`, or the signal's reason; this call's changes are undone then. */
export async function applyChanges(
  changes: readonly Change[],
  { machine, record, onChange, lastly, signal }: ApplyOptions,
): Promise<ServiceRecord> {
  const made: Undo[] = [];
  const known = new Set(record.undo.map(keyOf));
  const now = (): ServiceRecord => ({ ...record, undo: [...record.undo, ...made] });
  try {
    for (const change of changes) {
      signal.throwIfAborted();
      if (change.kind === 'check') {
        await check(machine, change, signal);
        continue;
      }
      const undo = undoOf(machine, change).filter((one) => !known.has(keyOf(one)));
      made.push(...undo);
      writeRecord(machine, now());
      onChange(change.what);
      await make(machine, change);
    }
    await lastly();
  } catch (thrown) {
    const left = await undoAll(made, machine, () => {});
    if (record.undo.length + left.length === 0) machine.remove(RECORD_FILE);
    else
      writeRecord(machine, { ...record, undo: [...record.undo, ...left.map((one) => one.undo)] });
    throw thrown;
  }
  return now();
}

/** The same thing undone twice is one entry: what was before the first time counts. */
const keyOf = (undo: Undo): string =>
  undo.kind === 'file' ? `file ${undo.path}` : `run ${undo.what}`;

const undoOf = (machine: Machine, change: Exclude<Change, { kind: 'check' }>): readonly Undo[] =>
  change.kind === 'file'
    ? [
        {
          kind: 'file',
          what: change.what,
          path: change.path,
          before: readBefore(machine, change.path),
        },
      ]
    : change.undo;

async function make(machine: Machine, change: Exclude<Change, { kind: 'check' }>): Promise<void> {
  if (change.kind === 'file') {
    machine.write(change.path, change.content, change.mode);
    return;
  }
  if (change.argv === undefined) return;
  const [program, ...args] = change.argv;
  const answer = await machine.run(program, args);
  if (answer.code === 0) return;
  throw new MinikeepError(
    'service.change_failed',
    `${change.what}: \`${typed(change.argv)}\` failed${answer.code === null ? '' : ` with ${answer.code}`}: ${shown(answer.stderr || answer.stdout)}`,
    { next: 'All is as it was before. See what it would do: minikeep service install --dry-run' },
  );
}

async function check(
  machine: Machine,
  change: Change & { kind: 'check' },
  signal: AbortSignal,
): Promise<void> {
  const [program, ...args] = change.argv;
  let said = '';
  for (let waited = 0; waited <= CHECK_MS_MAX; waited += CHECK_EVERY_MS) {
    signal.throwIfAborted();
    const answer = await machine.run(program, args);
    said = answer.stdout || answer.stderr;
    if (change.expect.test(answer.stdout)) return;
    await machine.sleep(CHECK_EVERY_MS);
  }
  let log = '';
  if (change.log !== undefined) {
    const [reader, ...rest] = change.log;
    log = (await machine.run(reader, rest)).stdout;
  }
  throw new MinikeepError(
    'service.check_failed',
    `${change.what}: it is not so after ${CHECK_MS_MAX / 1000} s; \`${typed(change.argv)}\` says: ${shown(said)}${log === '' ? '' : `\n${shown(log)}`}`,
    { next: 'All is as it was before. Try it in the foreground: minikeep start --home DIR' },
  );
}

export interface Left {
  readonly undo: Undo;
  readonly why: string;
}

/** Undoes from the last to the first; what fails is handed back, in the order it was made, and the rest still undone. */
export async function undoAll(
  entries: readonly Undo[],
  machine: Machine,
  onUndo: (what: string) => void,
): Promise<Left[]> {
  const left: Left[] = [];
  for (const undo of entries.toReversed()) {
    onUndo(describeUndo(undo));
    const why = await undoOne(machine, undo);
    if (why !== undefined) left.unshift({ undo, why });
  }
  return left;
}

async function undoOne(machine: Machine, undo: Undo): Promise<string | undefined> {
  try {
    if (undo.kind === 'file') {
      if (undo.before === undefined) machine.remove(undo.path);
      else machine.write(undo.path, undo.before.content, undo.before.mode);
      return undefined;
    }
    const [program, ...args] = undo.argv;
    const { code, stdout, stderr } = await machine.run(program, args);
    if (code === 0 || (code !== null && undo.gone?.includes(code) === true)) return undefined;
    return shown(stderr || stdout) || `exit ${code}`;
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}

const shown = (text: string): string => text.trim().slice(-OUTPUT_SHOWN_MAX);
