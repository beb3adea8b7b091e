/**
 * Makes a machine the first node: authority, database, certificates, settings. Cut at any step and run again it goes on:
 * the authority is written first and kept, and the settings, which make the home a node's, come last.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { EXIT, MinikeepError, identityUri } from '@minikeep/protocol';
import {
  CertificateAuthority,
  certificateRequest,
  keyDigestOfRequest,
  newPrivateKey,
} from '@minikeep/protocol/authority';
import { keyPin } from '@minikeep/protocol/rpc';
import {
  FILES,
  Home,
  State,
  addNode,
  createCluster,
  readCluster,
  readSettings,
  writeSettings,
  type NodeSettings,
} from '@minikeep/state';

export const COORDINATOR_NAME = 'coordinator';
const CLUSTER_RANDOM_BYTES = 4;
const CLUSTER_NAME_MAX = 40;

export interface InitOptions {
  /** What people call the cluster. */
  readonly name: string;
  /** This machine's name in it. */
  readonly node: string;
  readonly listen: string;
  readonly enrolmentListen: string;
  readonly agentListen: string;
  readonly apiListen: string;
  readonly coordinatorAddresses: readonly string[];
  readonly certificateSeconds: number;
  /** What becomes of ways out in answers; default: they are defanged. */
  readonly outputGuard?: 'report' | 'defang' | 'block';
  /** False: never announced by multicast. */
  readonly discovery?: boolean;
  /** Networks of the cluster's machines besides those that this one is attached to. */
  readonly networks?: readonly string[];
}

/** Throws `cluster.exists`, `cluster.name_invalid`, `home.*`, `state.*`. */
export async function initCluster(
  folder: string,
  options: InitOptions,
  now: () => number,
): Promise<NodeSettings> {
  checkNames(options);
  // Before the lock: a cluster that runs holds it, and its settings are there to be read.
  checkNew(folder);
  const home = Home.open(folder);
  try {
    checkNew(folder);
    const state = State.open(home, now);
    try {
      return await create(home, state, options, now);
    } finally {
      state.close();
    }
  } finally {
    home.close();
  }
}

function checkNew(folder: string): void {
  if (!existsSync(folder)) return;
  const before = readSettings(folder);
  if (before === undefined) return;
  throw new MinikeepError(
    'cluster.exists',
    `${folder} already belongs to ${before.node} of the cluster ${before.cluster_name}`,
    {
      next: 'Start it with `minikeep start`, or give another folder with --home.',
      exitCode: EXIT.usage,
    },
  );
}

async function create(
  home: Home,
  state: State,
  options: InitOptions,
  now: () => number,
): Promise<NodeSettings> {
  const begun = state.read(readCluster);
  const id = begun?.id ?? `${options.name}-${randomBytes(CLUSTER_RANDOM_BYTES).toString('hex')}`;
  // A first try that was cut may have named it: what stands in the database counts.
  const name = begun?.name ?? options.name;
  const node = begun?.node ?? options.node;
  if (begun === undefined) {
    const { authority, privateKeyPem } = await CertificateAuthority.create(id, now());
    home.writeKey(FILES.authorityKey, privateKeyPem);
    home.writeKey(FILES.authority, authority.certificatePem);
    const pin = keyPin(authority.certificatePem);
    state.write((transaction) =>
      createCluster(transaction, { id, name, authority: pin, node }, now()),
    );
  }
  const authority = await CertificateAuthority.load(
    id,
    home.readKey(FILES.authority) ?? '',
    home.readKey(FILES.authorityKey) ?? '',
  );
  const key = home.readKey(FILES.privateKey) ?? (await newPrivateKey());
  home.writeKey(FILES.privateKey, key);
  const request = await certificateRequest(key);
  const lifetimeMs = options.certificateSeconds * 1000;
  const certified = await authority.certify('node', node, request, now(), lifetimeMs);
  const keyDigest = await keyDigestOfRequest(request);
  state.write((transaction) =>
    addNode(transaction, { name: node, keyDigest, nowMs: now() }, certified, undefined),
  );
  home.writeKey(FILES.certificate, certified.certificatePem);
  const settings: NodeSettings = {
    cluster_id: id,
    cluster_name: name,
    node,
    listen: options.agentListen,
    coordinator: COORDINATOR_NAME,
    coordinator_addresses: [...options.coordinatorAddresses],
    ...(options.discovery === false ? { discovery: false } : {}),
    ...((options.networks ?? []).length === 0 ? {} : { networks: [...(options.networks ?? [])] }),
    serves: {
      listen: options.listen,
      enrolment_listen: options.enrolmentListen,
      api_listen: options.apiListen,
      ...(options.outputGuard === undefined ? {} : { output_guard: options.outputGuard }),
      certificate_seconds: options.certificateSeconds,
    },
  };
  writeSettings(home.folder, settings);
  return settings;
}

function checkNames({ name, node }: InitOptions): void {
  if (name.length <= CLUSTER_NAME_MAX) {
    // Both become part of certificates: their rules are checked there.
    identityUri({ cluster: name, role: 'node', name: node });
    return;
  }
  throw new MinikeepError(
    'cluster.name_invalid',
    `a cluster's name has at most ${CLUSTER_NAME_MAX} letters`,
    {
      next: 'Give a shorter one: --name lab',
      exitCode: EXIT.usage,
    },
  );
}
