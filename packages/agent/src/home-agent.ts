/** The agent of a cluster that stays: its identity and settings are in its home, and it keeps in touch with the coordinator. */
import type { Guarding } from '@minikeep/containment/guarded';
import {
  EXIT,
  MinikeepError,
  SET_CLOCK,
  utc,
  warnStarter,
  type Logger,
  type RunningProcess,
} from '@minikeep/protocol';
import { NAME_FIELD, parseConfig } from '@minikeep/protocol/config';
import {
  Revocations,
  parseAddress,
  reachableHosts,
  type RevokedSerials,
} from '@minikeep/protocol/rpc';
import {
  FILES,
  Home,
  readKeyFile,
  readSettings,
  requireKeyFile,
  writeKeyFile,
  type NodeSettings,
} from '@minikeep/state';
import { X509Certificate, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { startAgent } from './agent.ts';
import { nodeCanary } from './canary.ts';
import type { HomeAgentConfig } from './config.ts';
import { LogHeads } from './log-heads.ts';
import { Membership } from './membership.ts';
import { nodeDoctor } from './node-doctor.ts';
import { nodeSpeed } from './node-speed.ts';
import { platformFor, supportOf } from './platform.ts';

const INSTANCE_BYTES = 8;

const REVOKED = z.strictObject({
  epoch: z.number().int().nonnegative(),
  serials: z.array(NAME_FIELD),
});

/** Throws `home.*`, `certificate.ended`, `store.unusable`, `listen.*`. */
export async function startHomeAgent(
  config: HomeAgentConfig,
  version: string,
  guarding: Guarding,
  log: Logger,
): Promise<RunningProcess> {
  const settings = readSettings(config.home);
  if (settings === undefined) throw notANode(config.home);
  // Where there is a coordinator, that holds the home.
  const home = settings.serves === undefined ? Home.open(config.home) : undefined;
  try {
    return await start(config, settings, version, guarding, log, () => home?.close());
  } catch (error) {
    home?.close();
    throw error;
  }
}

async function start(
  config: HomeAgentConfig,
  settings: NodeSettings,
  version: string,
  guarding: Guarding,
  log: Logger,
  closeHome: () => void,
): Promise<RunningProcess> {
  const { home } = config;
  const revocations = new Revocations();
  const known = readKeyFile(home, FILES.revoked);
  if (known !== undefined) revocations.apply(parseConfig(REVOKED, known, FILES.revoked, 'agent'));
  const credentials = {
    authority: requireKeyFile(home, FILES.authority),
    certificate: requireKeyFile(home, FILES.certificate),
    privateKey: requireKeyFile(home, FILES.privateKey),
    revocations,
  };
  checkCertificate(credentials.certificate, settings);
  const onRevoked = (list: RevokedSerials): void =>
    writeKeyFile(home, FILES.revoked, JSON.stringify(revocations.merged(list)));
  const told = new Set<string>();
  const onTold = (error: MinikeepError): void => {
    if (told.has(error.message)) return;
    told.add(error.message);
    warnStarter(error);
  };
  const instance = randomBytes(INSTANCE_BYTES).toString('hex');
  const platform = platformFor(config.unsafe_no_sandbox);
  const full = {
    ...config,
    cluster: settings.cluster_id,
    node: settings.node,
    listen: settings.listen,
  };
  const agent = await startAgent(full, {
    credentials,
    heads: new LogHeads({
      home,
      cluster: settings.cluster_id,
      authority: credentials.authority,
    }),
    onRevoked,
    onTold,
    platform,
    canary: nodeCanary(platform, full),
    canaryAtStart: true,
    doctor: nodeDoctor(platform, full, home),
    speed: nodeSpeed(platform, full, home),
    sandbox: supportOf(platform),
    guarding,
    version,
    instance,
    log,
  });
  const { host } = parseAddress(settings.listen);
  const shutOut = Promise.withResolvers<MinikeepError>();
  const membership = new Membership({
    home,
    settings,
    credentials,
    version,
    instance,
    port: agent.listening.port,
    hosts: () => reachableHosts(host),
    discovery: config.discovery,
    revocationEpoch: () => revocations.epoch,
    onRenewed: () => agent.listening.renew(credentials),
    onRevoked(list) {
      if (list.epoch <= revocations.epoch) return;
      onRevoked(list);
      revocations.apply(list);
    },
    onTold,
    onShutOut: shutOut.resolve,
    log,
  });
  return {
    address: agent.address,
    failed: shutOut.promise,
    async stop(reason) {
      await membership.leave();
      await agent.stop(reason);
      closeHome();
    },
  };
}

function checkCertificate(
  certificate: string,
  { node, cluster_name: cluster }: NodeSettings,
): void {
  const { validToDate } = new X509Certificate(certificate);
  if (validToDate.getTime() > Date.now()) return;
  throw new MinikeepError(
    'certificate.ended',
    `the certificate of node ${node} of ${cluster} ended on ${utc(validToDate.getTime())}, and this machine's clock says ${utc(Date.now())}: it was away for too long, or the clock is wrong`,
    {
      next: `If the clock is wrong, set it: ${SET_CLOCK}. Else on the first node: minikeep invite. Here: minikeep join --token-file -; the slices that are here stay.`,
      exitCode: EXIT.denied,
    },
  );
}

function notANode(folder: string): MinikeepError {
  return new MinikeepError('home.no_cluster', `${folder} belongs to no cluster`, {
    next: 'Make a cluster with `minikeep init`, or join one with `minikeep join`.',
    exitCode: EXIT.usage,
  });
}
