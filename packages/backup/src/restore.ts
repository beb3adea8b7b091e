/**
 * Brings a cluster back from a backup: unpacked beside the home, checked, marked as restored, and moved into place as
 * the last step. A restore that was cut leaves nothing that a node would start from.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { randomInt } from 'node:crypto';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { keyPin } from '@minikeep/protocol/rpc';
import {
  FILES,
  Home,
  State,
  markRestored,
  readCluster,
  readSettings,
  requireKeyFile,
  syncFolder,
  writeSettings,
  type NodeSettings,
} from '@minikeep/state';
import type { Manifest } from './contents.ts';
import { readBackup } from './read-backup.ts';

/** More revocations than a cluster ever has between two backups: a list from before is older than any from after. */
const EPOCHS = 1_000_000;

export interface RestoreOptions {
  readonly file: string;
  readonly passphrase: string;
  /** Where the home comes to be; not there, or an empty folder. */
  readonly home: string;
  /** What this machine's settings are to be, given those of the lost one. */
  readonly settings: (before: NodeSettings) => NodeSettings;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

export interface Restored {
  readonly manifest: Manifest;
  readonly settings: NodeSettings;
}

/** Throws `backup.*`, `cluster.exists`, `home.not_empty`, `home.*`, `state.*`, `identity.*`. */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const home = path.resolve(options.home);
  checkEmpty(home);
  mkdirSync(path.dirname(home), { recursive: true });
  // Of its own: two at once must not meet, and nobody's folder is taken.
  const folder = mkdtempSync(`${home}.restoring-`);
  try {
    const manifest = await readBackup(options.file, options.passphrase, folder, options.signal);
    const settings = await settle(folder, manifest, options);
    options.signal.throwIfAborted();
    checkEmpty(home);
    renameSync(folder, home);
    syncFolder(path.dirname(home));
    return { manifest, settings };
  } catch (thrown) {
    rmSync(folder, { recursive: true, force: true });
    throw thrown;
  }
}

/** Everything in it belongs together, and says that it was restored. */
async function settle(
  folder: string,
  manifest: Manifest,
  { settings: wanted, now }: RestoreOptions,
): Promise<NodeSettings> {
  const before = readSettings(folder);
  if (before?.serves === undefined || before.cluster_id !== manifest.cluster_id)
    throw foreign('its settings are not those of a coordinator');
  await CertificateAuthority.load(
    manifest.cluster_id,
    requireKeyFile(folder, FILES.authority),
    requireKeyFile(folder, FILES.authorityKey),
  );
  const home = Home.open(folder);
  try {
    const state = State.open(home, now);
    try {
      const cluster = state.read(readCluster);
      const pin = keyPin(requireKeyFile(folder, FILES.authority));
      if (cluster?.id !== manifest.cluster_id || Buffer.compare(pin, cluster.authority) !== 0)
        throw foreign('its database is of another cluster');
      state.verifyAllEvents();
      // Two that are restored from one backup are told apart as well: the higher one counts.
      const epochs = EPOCHS + randomInt(EPOCHS);
      state.write((transaction) => markRestored(transaction, { made: manifest.made, epochs }));
    } finally {
      state.close();
    }
    const settings = wanted(before);
    writeSettings(folder, settings);
    return settings;
  } finally {
    home.close();
  }
}

function checkEmpty(home: string): void {
  if (!existsSync(home)) return;
  const before = readSettings(home);
  if (before !== undefined)
    throw new MinikeepError(
      'cluster.exists',
      `${home} already belongs to ${before.node} of the cluster ${before.cluster_name}`,
      { next: 'Restore into another folder: --home DIR', exitCode: EXIT.usage },
    );
  if (readdirSync(home).length === 0) return;
  throw new MinikeepError('home.not_empty', `${home} is not empty`, {
    next: 'Restore into a folder that is empty or not there: --home DIR',
    exitCode: EXIT.usage,
  });
}

const foreign = (why: string): MinikeepError =>
  new MinikeepError('backup.damaged', `the backup does not belong together: ${why}`, {
    next: 'Take another copy of it, or an older backup.',
  });
