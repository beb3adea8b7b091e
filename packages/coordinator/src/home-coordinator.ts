/**
 * The coordinator of a cluster that stays. Everything it knows is in its home; its own certificate and the operator's
 * are made anew at each start, and again before they end, for the authority is here.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import { setTimeout as setTimer } from 'node:timers/promises';
import path from 'node:path';
import { connectListMessage, type Guarding } from '@minikeep/containment/guarded';
import { MinikeepError, warnStarter, type Identity, type Logger } from '@minikeep/protocol';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import {
  RawDataPlaneDefinition,
  RawPieceDefinition,
  Revocations,
  accessInterceptor,
  formatAddress,
  listen,
  listenToStrangers,
  makeServer,
  parseAddress,
  reachableHosts,
  type AccessRules,
  type CredentialPems,
} from '@minikeep/protocol/rpc';
import {
  AuditServiceDefinition,
  EnrolmentServiceDefinition,
  LinkServiceDefinition,
  MembershipServiceDefinition,
  OperatorServiceDefinition,
  SealStatusServiceDefinition,
  OutputGuardServiceDefinition,
} from '@minikeep/protocol/v1';
import {
  FILES,
  Home,
  RUNNING,
  State,
  readNodes,
  readSettings,
  requireKeyFile,
  writeSettings,
  type NodeSettings,
} from '@minikeep/state';
import { startApi } from './api/server.ts';
import { Heads } from './audit/heads.ts';
import { auditService } from './audit/service.ts';
import { Cluster } from './cluster.ts';
import type { HomeCoordinatorConfig } from './config.ts';
import { Lasting } from './lasting.ts';
import { libraryFolder } from '@minikeep/models';
import { Models } from './models.ts';
import { certifiable } from './membership/certifiable.ts';
import { Members } from './membership/members.ts';
import { enrolmentService, membershipService } from './membership/services.ts';
import { operatorService } from './operator-service.ts';
import { keepOutputPolicy } from './output/keep-policy.ts';
import { outputGuardService } from './output/service.ts';
import { recordAccepted } from './record-accepted.ts';
import { recordOwn } from './own-violations.ts';
import { tryHourly } from './seal/hourly.ts';
import { keepViolations } from './home-violations.ts';
import { homePolicies } from './seal/home-policies.ts';
import { sealStatusService } from './seal/service.ts';
import { homeStore } from './reconcile/home-store.ts';
import type { RunningCoordinator } from './coordinator.ts';

const ACCESS: AccessRules = {
  'minikeep.v1.OperatorService': ['operator'],
  'minikeep.v1.AuditService': ['operator'],
  'minikeep.v1.SealStatusService': ['operator'],
  'minikeep.v1.OutputGuardService': ['operator'],
  'minikeep.v1.DataPlaneService': ['node'],
  // Which node which piece, a deployment says while it sends.
  'minikeep.v1.PieceService': ['node'],
  'minikeep.v1.LinkService': ['node'],
  'minikeep.v1.MembershipService': ['node'],
};

const INSTANCE_BYTES = 8;
const DAY_MS = 86_400_000;
/** Of the coordinator's own certificate and the operator's. */
const OWN_LIFETIME_MS = 90 * DAY_MS;
const OWN_RENEWED_AFTER_MS = 20 * DAY_MS;
const OPERATOR_NAME = 'operator';

/** What is open and has to be closed, in reverse order. */
type Closer = () => void | Promise<void>;

/** Throws `home.*`, `state.*`, `identity.*`, `listen.*`. */
export async function startHomeCoordinator(
  config: HomeCoordinatorConfig,
  version: string,
  guarding: Guarding,
  log: Logger,
): Promise<RunningCoordinator> {
  const closers: Closer[] = [];
  const stop = async (reason: string): Promise<void> => {
    log('info', 'stopping', { reason });
    for (const close of closers.splice(0).toReversed()) await close();
  };
  try {
    return { address: await open(config, version, guarding, log, closers), stop };
  } catch (error) {
    await stop('it could not start');
    throw error;
  }
}

async function open(
  config: HomeCoordinatorConfig,
  version: string,
  guarding: Guarding,
  log: Logger,
  closers: Closer[],
): Promise<string> {
  const home = Home.open(config.home);
  closers.push(() => home.close());
  const settings = readSettings(home.folder);
  const serves = settings?.serves;
  if (settings === undefined || serves === undefined) throw notACoordinator(home.folder);
  const state = State.open(home, Date.now);
  closers.push(() => state.close());
  recordAccepted(state, config.accepted_changed ?? []);
  const id = settings.cluster_id;
  const authority = await CertificateAuthority.load(
    id,
    requireKeyFile(home.folder, FILES.authority),
    requireKeyFile(home.folder, FILES.authorityKey),
  );
  const violationKey = keyFrom(requireKeyFile(home.folder, FILES.authorityKey));
  const revocations = new Revocations();
  const credentials = { authority: '', certificate: '', privateKey: '', revocations };
  const identity: Identity = { cluster: id, role: 'coordinator', name: settings.coordinator };
  await renewOwn(home, authority, settings, credentials);

  const { host } = parseAddress(serves.listen);
  const where = {
    port: 0,
    enrolmentPort: 0,
    apiUrl: '',
    /** Now: a machine's addresses change. */
    get hosts(): readonly string[] {
      return reachableHosts(host);
    },
    /** For what runs on this machine: no cable has to be in it. */
    get inside(): string {
      return formatAddress(insideHost(host), this.port);
    },
  };
  const told = new Set<string>();
  const disobeyed = (error: MinikeepError): void => {
    if (told.has(error.message)) return;
    told.add(error.message);
    warnStarter(error);
    try {
      state.write(({ event }) => event(error.code, { why: error.message.slice(0, 300) }));
    } catch (thrown) {
      // A disk that is full: it was said where the coordinator was started.
      log('warn', 'an event could not be kept', { event: error.code, error: String(thrown) });
    }
  };
  const members: Members = new Members({
    settings,
    state,
    authority,
    revocations,
    now: Date.now,
    where: () => where,
    onNode(name, addresses) {
      const link = cluster.nodes.find((node) => node.name === name);
      if (link === undefined) cluster.addNode(name, addresses);
      else link.moveTo(addresses);
    },
    onRemoved: (name) => cluster.removeNode(name),
    onOutdated: disobeyed,
  });
  const addresses = (): string[] => where.hosts.map((host) => formatAddress(host, where.port));
  const cluster: Cluster = new Cluster({
    store: homeStore(state),
    cluster: id,
    identity,
    version,
    label: { name: settings.cluster_name, node: settings.node },
    nodes: state.read(readNodes).map(({ name, addresses: known }) => ({ name, addresses: known })),
    credentials,
    cacheFolder: libraryFolder(home.folder),
    policyStore: homePolicies(state),
    onFault: (what, thrown) => log('error', what, { error: String(thrown) }),
    seal: {
      connectList: connectListMessage(guarding),
      proofWanted: true,
      doubts: () => heads.doubts,
      keep(kind, data) {
        try {
          state.write(({ event }) => event(kind, data));
        } catch (thrown) {
          log('warn', 'an event could not be kept', { event: kind, error: String(thrown) });
        }
      },
    },
    // The stage on this machine goes on whatever is pulled out of it.
    addressesFor: (node) =>
      node === settings.node ? [...new Set([where.inside, ...addresses()])] : addresses(),
    greeting: {
      instance: randomBytes(INSTANCE_BYTES).toString('hex'),
      revoked: () => members.revoked(),
      violationKey,
    },
    onDisobeyed: disobeyed,
    facts: (name) => members.facts(name),
    apiUrl: () => where.apiUrl,
  });
  closers.push(() => cluster.close());
  const kept = keepViolations(state, cluster.violations);
  closers.push(() => kept.close());
  cluster.unlogged = () => kept.fault();
  const own = recordOwn(guarding, settings.node, violationKey, cluster.violations);
  cluster.models = new Models(cluster.library, state, Date.now);
  const heads: Heads = new Heads({
    state,
    cluster: id,
    key: requireKeyFile(home.folder, FILES.authorityKey),
    nodes: () => cluster.nodes,
    log,
  });
  // The last word, while the nodes are still there.
  closers.push(() => heads.tell());
  const lasting = new Lasting(members, state, cluster, log);

  const server = makeServer();
  closers.push(() => server.forceShutdown());
  keepOutputPolicy(cluster, home, state);
  server.add(OperatorServiceDefinition, operatorService(cluster, lasting));
  server.add(
    SealStatusServiceDefinition,
    sealStatusService(cluster, state, () => own.revealed()),
  );
  server.add(OutputGuardServiceDefinition, outputGuardService(cluster));
  server.add(RawDataPlaneDefinition, { frames: cluster.results.handler });
  server.add(RawPieceDefinition, cluster.origin.service);
  server.add(LinkServiceDefinition, { probe: () => Promise.resolve({}) });
  server.add(
    AuditServiceDefinition,
    auditService({ state, heads, nodes: () => cluster.nodes, authority: authority.certificatePem }),
  );
  server.add(
    MembershipServiceDefinition,
    membershipService(members, version, addresses, (name) => cluster.instanceOf(name)),
  );
  const access = accessInterceptor(id, ACCESS, {
    onRefused: (refusal) => log('warn', 'a call was refused', { ...refusal }),
    revocations,
  });
  const listening = await listen(server, serves.listen, credentials, [access]);
  const strangers = makeServer();
  closers.push(() => strangers.forceShutdown());
  strangers.add(EnrolmentServiceDefinition, enrolmentService(members, version));
  const forStrangers = await listenToStrangers(strangers, serves.enrolment_listen, credentials);

  const api = await startApi(cluster, serves.api_listen, version);
  closers.push(() => api.close());
  where.apiUrl = api.url;

  where.port = listening.port;
  where.enrolmentPort = forStrangers.port;
  keepPorts(home, settings, {
    port: where.port,
    enrolmentPort: where.enrolmentPort,
    apiPort: api.port,
  });
  const address = formatAddress(where.hosts[0] ?? host, where.port);
  const enrolment = formatAddress(insideHost(host), where.enrolmentPort);
  writeRunning(home, where.inside, enrolment, api.url);
  closers.push(() => home.removeKey(FILES.running));

  cluster.start();
  const stopped = new AbortController();
  closers.push(() => stopped.abort());
  void heads.run(stopped.signal);
  void tryHourly(() => cluster.nodes, stopped.signal, log);
  void keepRenewing(stopped.signal, log, async () => {
    await renewOwn(home, authority, settings, credentials);
    listening.renew(credentials);
    forStrangers.renew(credentials);
  });
  log('info', 'listening', { address });
  return address;
}

/** The same for as long as the cluster is, restored ones included; nothing of the authority's key can be had from it. */
const keyFrom = (authorityKey: string): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', authorityKey, '', 'minikeep violations', 32));

/** New certificates for the coordinator and the operator; `credentials` is changed in place. */
async function renewOwn(
  home: Home,
  authority: CertificateAuthority,
  settings: NodeSettings,
  credentials: { -readonly [K in keyof CredentialPems]: CredentialPems[K] },
): Promise<void> {
  const validity = {
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + OWN_LIFETIME_MS),
  };
  const { host, port } = parseAddress(settings.serves?.listen ?? '');
  const addresses = certifiable(reachableHosts(host).map((one) => formatAddress(one, port ?? 0)));
  const own = await authority.issue('coordinator', settings.coordinator, validity, addresses);
  const operator = await authority.issue('operator', OPERATOR_NAME, validity);
  // The key first: a certificate without its key lets nobody in.
  home.writeKey(FILES.operatorKey, operator.privateKeyPem);
  home.writeKey(FILES.operatorCertificate, operator.certificatePem);
  credentials.authority = authority.certificatePem;
  credentials.certificate = own.certificatePem;
  credentials.privateKey = own.privateKeyPem;
}

async function keepRenewing(
  signal: AbortSignal,
  log: Logger,
  renew: () => Promise<void>,
): Promise<void> {
  let dueMs = Date.now() + OWN_RENEWED_AFTER_MS;
  while (!signal.aborted) {
    // Looked at often: a machine that sleeps or whose clock is set does not count days.
    await setTimer(3_600_000, undefined, { signal, ref: false }).catch(() => {});
    if (signal.aborted || Date.now() < dueMs) continue;
    try {
      await renew();
      dueMs = Date.now() + OWN_RENEWED_AFTER_MS;
    } catch (error) {
      log('error', "the coordinator's certificate could not be renewed", { error: String(error) });
    }
  }
}

/** Ports that the kernel chose stay what they are: nodes remember them. */
function keepPorts(
  home: Home,
  settings: NodeSettings,
  where: { readonly port: number; readonly enrolmentPort: number; readonly apiPort: number },
): void {
  const { serves } = settings;
  if (serves === undefined) return;
  const withPort = (text: string, port: number): string =>
    formatAddress(parseAddress(text).host, port);
  const kept: NodeSettings = {
    ...settings,
    serves: {
      ...serves,
      listen: withPort(serves.listen, where.port),
      enrolment_listen: withPort(serves.enrolment_listen, where.enrolmentPort),
      api_listen: withPort(serves.api_listen, where.apiPort),
    },
  };
  if (JSON.stringify(kept) !== JSON.stringify(settings)) writeSettings(home.folder, kept);
}

const insideHost = (host: string): string =>
  host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;

function writeRunning(home: Home, address: string, enrolmentAddress: string, apiUrl: string): void {
  const running = RUNNING.parse({
    pid: process.pid,
    address,
    enrolment_address: enrolmentAddress,
    api_url: apiUrl,
  });
  home.writeKey(FILES.running, `${JSON.stringify(running)}\n`);
}

function notACoordinator(folder: string): MinikeepError {
  return new MinikeepError(
    'home.not_coordinator',
    `${path.resolve(folder)} is not the home of a coordinator`,
    {
      next: 'Make one with `minikeep init`.',
    },
  );
}
