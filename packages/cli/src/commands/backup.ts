/** `minikeep backup FILE`: the cluster's authority and state in one encrypted file. */
import { PASSPHRASE_LENGTH_MAX, passphraseOf, writeBackup } from '@minikeep/backup';
import { EXIT, MINIKEEP_VERSION, MinikeepError } from '@minikeep/protocol';
import { Home, State } from '@minikeep/state';
import { mkdtemp, open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, nodeSettings, type HomeFlags } from '../home-folder.ts';
import { connectOperator } from '../operator-connection.ts';
import { readSmallInput } from '../small-input.ts';

export interface BackupFlags extends HomeFlags {
  readonly passphraseFile: string;
}

export async function backup(
  { terminal, interrupts }: CommandContext,
  file: string,
  flags: BackupFlags,
): Promise<number> {
  const { signal } = interrupts;
  const folder = homeFolder(flags);
  const settings = nodeSettings(folder);
  if (settings.serves === undefined) throw notHere(settings.node);
  const passphrase = await readPassphrase(flags.passphraseFile, terminal.stdin, signal);
  // In the home: nobody else may look into it, and there is room for a database of this size.
  const temporary = await mkdtemp(path.join(folder, '.backup-'));
  try {
    const database = path.join(temporary, 'state.db');
    await snapshot(flags, folder, database, signal);
    const target = path.resolve(file);
    const bytes = await writeBackup({
      home: folder,
      database,
      file: target,
      passphrase,
      version: MINIKEEP_VERSION,
      now: Date.now(),
      signal,
    });
    if (flags.json === true)
      await terminal.json({ file: target, bytes, cluster: settings.cluster_name });
    else {
      await terminal.line(
        `${target}: the cluster ${settings.cluster_name}, ${bytes} bytes, encrypted.`,
      );
      await terminal.paragraph(
        'In it: the authority, who belongs to the cluster, what is up, the event log. Not in it: models and slices; nodes keep theirs. Keep it away from this machine, and the passphrase away from it: whoever has both owns the cluster.',
      );
    }
    return EXIT.ok;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Throws `usage.*`, `backup.passphrase_short`. */
export async function readPassphrase(
  file: string,
  stdin: NodeJS.ReadableStream,
  signal: AbortSignal,
): Promise<string> {
  return passphraseOf(await readSmallInput(file, stdin, PASSPHRASE_LENGTH_MAX + 2, signal));
}

/** From the coordinator, when it runs; else from the database itself. */
async function snapshot(
  flags: HomeFlags,
  folder: string,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  let home: Home;
  try {
    home = Home.open(folder);
  } catch (error) {
    if (error instanceof MinikeepError && error.code === 'home.in_use')
      return asked(flags, file, signal);
    throw error;
  }
  try {
    const state = State.open(home, Date.now);
    try {
      await state.snapshot(file);
    } finally {
      state.close();
    }
  } finally {
    home.close();
  }
}

async function asked(flags: HomeFlags, file: string, signal: AbortSignal): Promise<void> {
  const connection = connectOperator(flags);
  const handle = await open(file, 'wx', 0o600);
  try {
    for await (const { data } of connection.operator.snapshotState({}, { signal }))
      await handle.writeFile(data);
  } finally {
    await handle.close();
    connection.close();
  }
}

const notHere = (node: string): MinikeepError =>
  new MinikeepError(
    'home.not_coordinator',
    `node ${node} keeps nothing that can't be had again: the cluster's state is on the coordinator's machine`,
    { next: 'Run the command there.', exitCode: EXIT.usage },
  );
