/**
 * `minikeep join`: makes this machine a node. Its key is made and kept before anything is sent, so that a join that was
 * cut is repeated by the same machine; nothing is sent before the other side has shown that it has the authority's
 * certificate.
 */
import {
  EXIT,
  MINIKEEP_VERSION,
  MinikeepError,
  PROTOCOL_VERSION,
  clockSkew,
} from '@minikeep/protocol';
import { certificateRequest, newPrivateKey } from '@minikeep/protocol/authority';
import {
  connectAsStranger,
  deadline,
  decodeToken,
  formatAddress,
  isLoopback,
  lookAtAuthority,
  parseAddress,
  TOKEN_LENGTH_MAX,
  type ConnectionFault,
  type InviteToken,
  type PinnedServer,
} from '@minikeep/protocol/rpc';
import { EnrolmentServiceDefinition, type JoinResponse } from '@minikeep/protocol/v1';
import { COORDINATOR_DEFAULTS } from '@minikeep/coordinator/membership';
import { FILES, Home, readSettings, writeSettings } from '@minikeep/state';
import type { CommandContext } from '../command-context.ts';
import { findCoordinators } from '../find-coordinators.ts';
import { homeFolder, homeHint, type HomeFlags } from '../home-folder.ts';
import { nameOfThisMachine } from '../machine-name.ts';
import { assertNear } from '../networks.ts';
import { readSmallInput } from '../small-input.ts';

export interface JoinFlags extends HomeFlags {
  readonly tokenFile: string;
  readonly name?: string;
  readonly listen?: string;
  readonly discovery?: boolean;
  readonly network?: readonly string[];
}

const JOIN_TIMEOUT_MS = 15_000;

interface Place {
  readonly host: string;
  readonly port: number;
}

export async function join(
  context: CommandContext,
  address: string | undefined,
  flags: JoinFlags,
): Promise<number> {
  const { terminal, interrupts } = context;
  const folder = homeFolder(flags);
  const given = address === undefined ? undefined : parseAddress(address);
  const text = await readSmallInput(
    flags.tokenFile,
    terminal.stdin,
    TOKEN_LENGTH_MAX,
    interrupts.signal,
  );
  const token = decodeToken(text);
  const home = Home.open(folder);
  try {
    const before = readSettings(folder);
    if (before?.serves !== undefined)
      throw new MinikeepError(
        'cluster.exists',
        `${folder} is the home of the coordinator of ${before.cluster_name}`,
        { next: 'Give this node a home of its own: --home DIR', exitCode: EXIT.usage },
      );
    const key = home.readKey(FILES.privateKey) ?? (await newPrivateKey());
    home.writeKey(FILES.privateKey, key);
    const { place, server } = await findPlace(token, given, flags, interrupts.signal);
    assertNear(server.host, place.port, flags.network ?? []);
    const wish = flags.name ?? before?.node ?? nameOfThisMachine();
    const answer = await ask(
      place,
      server,
      token,
      key,
      wish,
      flags.name !== undefined,
      interrupts.signal,
    );
    keep(home, place, server, answer, flags);
    await tell(context, flags, folder, answer);
    return EXIT.ok;
  } finally {
    home.close();
  }
}

/** The first place at which the token's authority answers. */
async function findPlace(
  token: InviteToken,
  given: { readonly host: string; readonly port: number | undefined } | undefined,
  flags: JoinFlags,
  signal: AbortSignal,
): Promise<{ place: Place; server: PinnedServer }> {
  if (given !== undefined) {
    // People know the coordinator's address; strangers join at the port that the token names.
    const port =
      given.port === undefined || given.port === token.mainPort ? token.port : given.port;
    const place = { host: given.host, port };
    return { place, server: await lookAtAuthority(place.host, port, token.pin, signal) };
  }
  let first: unknown;
  for await (const place of findCoordinators(token, flags.discovery !== false, signal)) {
    try {
      return { place, server: await lookAtAuthority(place.host, place.port, token.pin, signal) };
    } catch (thrown) {
      signal.throwIfAborted();
      first ??= thrown;
    }
  }
  throw new MinikeepError('join.not_found', 'the cluster was not found on this network', {
    next: 'Check that `minikeep start` runs on the first node, or give its address: minikeep join 192.168.1.20 --token-file -',
    exitCode: EXIT.unreachable,
    cause: first,
  });
}

async function ask(
  place: Place,
  server: PinnedServer,
  token: InviteToken,
  key: string,
  name: string,
  nameIsFixed: boolean,
  signal: AbortSignal,
): Promise<JoinResponse> {
  const connection = connectAsStranger(
    EnrolmentServiceDefinition,
    formatAddress(place.host, place.port),
    server.authorityPem,
    server.identity,
    'the coordinator',
    cut,
  );
  try {
    return await connection.client.join(
      {
        protocolVersion: PROTOCOL_VERSION,
        minikeepVersion: MINIKEEP_VERSION,
        tokenId: token.id,
        tokenSecret: token.secret,
        name,
        nameIsFixed,
        certificateRequestPem: await certificateRequest(key),
      },
      { signal: deadline(JOIN_TIMEOUT_MS, signal) },
    );
  } finally {
    connection.close();
  }
}

/** Whether it was taken in or not, the key is kept here: the coordinator knows this machine again. */
const cut = (fault: ConnectionFault): MinikeepError =>
  fault.code === 'clock.skew'
    ? fault
    : new MinikeepError('join.cut', `the join was cut before it was done: ${fault.message}`, {
        next: 'Run the same command again, with the same token: it is good for this machine until it expires.',
        exitCode: EXIT.unreachable,
        cause: fault,
      });

/** The settings last: they make the home a node's. */
function keep(
  home: Home,
  place: Place,
  server: PinnedServer,
  answer: JoinResponse,
  { listen, discovery, network = [] }: JoinFlags,
): void {
  home.writeKey(FILES.authority, server.authorityPem);
  home.writeKey(FILES.certificate, answer.certificatePem);
  // A node that came back may have learnt of removals that are over.
  home.removeKey(FILES.revoked);
  const inside = isLoopback(place.host);
  const { host, port } = parseAddress(listen ?? (inside ? '127.0.0.1' : COORDINATOR_DEFAULTS.host));
  // Several nodes of one machine can't have one port.
  const agentPort = port ?? (inside ? 0 : COORDINATOR_DEFAULTS.agentPort);
  writeSettings(home.folder, {
    cluster_id: answer.clusterId,
    cluster_name: answer.clusterName,
    node: answer.node,
    listen: formatAddress(host, agentPort),
    coordinator: answer.coordinator,
    coordinator_addresses: addressesFrom(server, answer),
    ...(discovery === false ? { discovery: false } : {}),
    ...(network.length === 0 ? {} : { networks: [...network] }),
  });
}

/** The address at which it answered just now comes first: never a name, which only a question to others could tell. */
function addressesFrom({ host }: PinnedServer, answer: JoinResponse): string[] {
  const port = parseAddress(answer.coordinatorAddresses[0] ?? '').port ?? COORDINATOR_DEFAULTS.port;
  return [...new Set([formatAddress(host, port), ...answer.coordinatorAddresses])];
}

async function tell(
  { terminal }: CommandContext,
  flags: JoinFlags,
  folder: string,
  answer: JoinResponse,
): Promise<void> {
  const ahead = Date.now() / 1000 - answer.nowSeconds;
  if (flags.json === true) {
    await terminal.json({
      cluster: answer.clusterName,
      cluster_id: answer.clusterId,
      node: answer.node,
      home: folder,
      clock_ahead_seconds: Math.round(ahead),
    });
    return;
  }
  await terminal.paragraph(
    `This machine is node ${answer.node} of the cluster ${answer.clusterName}.`,
  );
  const skew = clockSkew({
    whose: "this machine's clock",
    platform: process.platform,
    aheadSeconds: ahead,
    coordinatorMs: answer.nowSeconds * 1000,
  });
  if (skew !== undefined) terminal.note(`warning: ${skew.message}. ${skew.next}`);
  await terminal.line(
    `Next:  minikeep start${homeHint(flags)}      (or: minikeep service install)`,
  );
}
