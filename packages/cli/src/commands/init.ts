/** `minikeep init`: makes this machine the first node of a new cluster. */
import { COORDINATOR_DEFAULTS, initCluster } from '@minikeep/coordinator/membership';
import { EXIT } from '@minikeep/protocol';
import { formatAddress, isAnyAddress, parseAddress, reachableHosts } from '@minikeep/protocol/rpc';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, homeHint, type HomeFlags } from '../home-folder.ts';
import type { OutputPolicyName } from '../output-policy-names.ts';
import { nameOfThisMachine } from '../machine-name.ts';

export interface InitFlags extends HomeFlags {
  readonly outputGuard?: OutputPolicyName;
  readonly name?: string;
  readonly nodeName?: string;
  readonly listen?: string;
  readonly apiListen?: string;
  readonly certificateDays?: number;
  /** A backup; the cluster comes from there. */
  readonly restore?: string;
  readonly passphraseFile?: string;
  readonly discovery?: boolean;
  readonly network?: readonly string[];
}

const DAY_SECONDS = 86_400;

export async function init({ terminal }: CommandContext, flags: InitFlags): Promise<number> {
  const folder = homeFolder(flags);
  const { host, port = COORDINATOR_DEFAULTS.port } = parseAddress(
    flags.listen ?? COORDINATOR_DEFAULTS.host,
  );
  // One after the other, so that a firewall needs one range; all by the kernel's choice when the first is.
  const next = (step: number): number => (port === 0 ? 0 : port + step);
  const settings = await initCluster(
    folder,
    {
      name: flags.name ?? COORDINATOR_DEFAULTS.name,
      node: flags.nodeName ?? nameOfThisMachine(),
      listen: formatAddress(host, port),
      enrolmentListen: formatAddress(host, next(1)),
      agentListen: formatAddress(host, next(2)),
      apiListen: flags.apiListen ?? formatAddress('127.0.0.1', next(3)),
      coordinatorAddresses:
        port === 0 ? [] : reachableHosts(host).map((h) => formatAddress(h, port)),
      ...(flags.discovery === false ? { discovery: false } : {}),
      ...(flags.outputGuard === undefined ? {} : { outputGuard: flags.outputGuard }),
      networks: flags.network ?? [],
      certificateSeconds:
        (flags.certificateDays ?? COORDINATOR_DEFAULTS.certificateDays) * DAY_SECONDS,
    },
    Date.now,
  );
  if (flags.json === true) {
    await terminal.json({
      cluster: settings.cluster_name,
      cluster_id: settings.cluster_id,
      node: settings.node,
      home: folder,
      listen: settings.serves?.listen,
    });
    return EXIT.ok;
  }
  const where = isAnyAddress(host) ? 'every address of this machine' : host;
  await terminal.paragraph(
    `The cluster ${settings.cluster_name} is made, and this machine is its first node, ${settings.node}. Its authority, keys and state are in ${folder}. It listens on ${where}${port === 0 ? '' : `, ports ${port} to ${port + 2}`}.`,
  );
  await terminal.line('');
  await terminal.line(
    `Next:  minikeep start${homeHint(flags)}      (or: minikeep service install)`,
  );
  await terminal.line(`then:  minikeep invite${homeHint(flags)}     for each machine that joins`);
  return EXIT.ok;
}
