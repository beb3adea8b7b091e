/** `minikeep init --restore FILE`: the coordinator's machine is lost, and this one takes its place. */
import { restoreBackup } from '@minikeep/backup';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { formatAddress, parseAddress } from '@minikeep/protocol/rpc';
import type { NodeSettings } from '@minikeep/state';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, homeHint } from '../home-folder.ts';
import { readPassphrase } from './backup.ts';
import type { InitFlags } from './init.ts';

/** What a backup has already decided. */
const DECIDED = ['name', 'nodeName', 'certificateDays'] as const;

export async function restore(
  { terminal, interrupts }: CommandContext,
  file: string,
  flags: InitFlags,
): Promise<number> {
  const { signal } = interrupts;
  const decided = DECIDED.find((name) => flags[name] !== undefined);
  if (decided !== undefined) throw decidedByBackup(decided);
  if (flags.passphraseFile === undefined)
    throw new MinikeepError('usage.no_passphrase', 'a backup is encrypted with a passphrase', {
      next: `minikeep init --restore ${file} --passphrase-file FILE   (or - for standard input)`,
      exitCode: EXIT.usage,
    });
  const passphrase = await readPassphrase(flags.passphraseFile, terminal.stdin, signal);
  const { manifest, settings } = await restoreBackup({
    file,
    passphrase,
    home: homeFolder(flags),
    settings: (before) => ({
      ...withListen(before, flags.listen),
      ...(flags.discovery === false ? { discovery: false } : {}),
    }),
    now: Date.now,
    signal,
  });
  if (flags.json === true) {
    await terminal.json({
      cluster: settings.cluster_name,
      cluster_id: settings.cluster_id,
      node: settings.node,
      home: homeFolder(flags),
      listen: settings.serves?.listen,
      backup_made: manifest.made,
    });
    return EXIT.ok;
  }
  const hint = homeHint(flags);
  await terminal.paragraph(
    `The cluster ${settings.cluster_name} is back as it was on ${manifest.made.slice(0, 16).replace('T', ' ')} UTC, and this machine is its node ${settings.node}, where the coordinator runs.`,
  );
  await terminal.line('');
  await terminal.line(`Next:  minikeep start${hint}      (or: minikeep service install)`);
  await terminal.line('');
  await terminal.paragraph(
    'Then look at `minikeep nodes`. Nodes find this machine at the address of the lost one, or by Bonjour on one local network; where they do not, run on each: minikeep join ADDRESS --token-file -, with a token of `minikeep invite`; they keep their slices. Who joined after the backup joins again in the same way; who was removed after it is to be removed again. Never start the lost machine again from its old disk.',
  );
  return EXIT.ok;
}

/** The lost machine's ports on another address. */
function withListen(before: NodeSettings, listen: string | undefined): NodeSettings {
  const { serves } = before;
  if (listen === undefined || serves === undefined) return before;
  const { host, port = parseAddress(serves.listen).port ?? 0 } = parseAddress(listen);
  const moved = (address: string): string => {
    const shift = (parseAddress(address).port ?? 0) - (parseAddress(serves.listen).port ?? 0);
    return formatAddress(host, port === 0 ? 0 : port + shift);
  };
  const api = parseAddress(moved(serves.api_listen));
  return {
    ...before,
    listen: moved(before.listen),
    coordinator_addresses: [],
    serves: {
      ...serves,
      listen: formatAddress(host, port),
      enrolment_listen: moved(serves.enrolment_listen),
      api_listen: formatAddress(parseAddress(serves.api_listen).host, api.port ?? 0),
    },
  };
}

function decidedByBackup(name: string): MinikeepError {
  const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  return new MinikeepError('usage.decided_by_backup', `${flag} is decided by the backup`, {
    next: 'Leave it out: the cluster comes back with its names and certificates.',
    exitCode: EXIT.usage,
  });
}
