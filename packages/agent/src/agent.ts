/** One agent: store, events, deployments and the server, put together; and taken apart again without leaving anything. */
import type { SandboxPlatform } from '@minikeep/containment';
import { connectListMessage, type Guarding } from '@minikeep/containment/guarded';
import { MinikeepError, type Logger } from '@minikeep/protocol';
import {
  accessInterceptor,
  listen,
  makeServer,
  RawDataPlaneDefinition,
  RawPieceDefinition,
  linkService,
  type AccessRules,
  type CredentialPems,
  type Listening,
  type RevokedSerials,
} from '@minikeep/protocol/rpc';
import {
  AgentServiceDefinition,
  LinkServiceDefinition,
  type HelloResponse,
} from '@minikeep/protocol/v1';
import { agentService } from './agent-service.ts';
import type { NodeCanary } from './canary.ts';
import type { AgentConfig } from './config.ts';
import { dataPlane } from './data-plane.ts';
import type { NodeDoctor } from './node-doctor.ts';
import type { NodeSpeed } from './node-speed.ts';
import { EventHub } from './event-hub.ts';
import { Hosts } from './hosts.ts';
import { Links } from './links.ts';
import { ObeyedCoordinator, obeying } from './obeyed-coordinator.ts';
import type { LogHeads } from './log-heads.ts';
import { machineId } from './machine.ts';
import { Pieces } from './prepare-slice.ts';
import { SealWatch } from './seal-watch.ts';
import { SliceStore } from './slice-store.ts';
import { Violations } from './violations.ts';

/** Control belongs to the coordinator; frames come from neighbours, of which the coordinator is one. The stage then checks which. */
const ACCESS: AccessRules = {
  'minikeep.v1.AgentService': ['coordinator'],
  'minikeep.v1.DataPlaneService': ['node', 'coordinator'],
  // Which node which piece, the coordinator says (AllowPieces).
  'minikeep.v1.PieceService': ['node'],
  'minikeep.v1.LinkService': ['node', 'coordinator'],
};

/** A canary that began so long before an engine's start proves it, too: `up` has just tried one. */
const CANARY_AGE_MS_MAX = 60_000;

export interface AgentParts {
  readonly credentials: CredentialPems;
  /** What is remembered of the event log; nothing for a throw-away cluster. */
  readonly heads?: LogHeads;
  /** Keeps a newer list of who is shut out, before it is acted on; nothing for a throw-away cluster. */
  onRevoked?(list: RevokedSerials): void;
  /** A person on this machine has to hear of it. */
  readonly onTold?: (error: MinikeepError) => void;
  readonly platform: SandboxPlatform;
  readonly canary: NodeCanary;
  /** No engine without a canary that held just before; a throw-away cluster tries none. */
  readonly canaryAtStart?: boolean;
  readonly doctor: NodeDoctor;
  readonly speed: NodeSpeed;
  readonly sandbox: Promise<NonNullable<HelloResponse['sandbox']>>;
  /** Of this process itself. */
  readonly guarding: Guarding;
  readonly version: string;
  /** Tells this process from every other of the same home. */
  readonly instance?: string;
  readonly log: Logger;
}

export interface RunningAgent {
  /** host:port that neighbours and the coordinator reach. */
  readonly address: string;
  /** What handshakes use can be renewed. */
  readonly listening: Listening;
  /** Kills every engine, ends every stream, lets go of every slice. */
  stop(reason: string): Promise<void>;
}

/** Starts an agent. Throws `store.unusable`, `listen.*`. */
export async function startAgent(
  config: Omit<AgentConfig, 'credentials' | 'end_with_stdin' | 'temporary_folder'>,
  parts: AgentParts,
): Promise<RunningAgent> {
  const { log, credentials } = parts;
  const store = await SliceStore.open(config.store.folder, config.store.bytes_max);
  const hub = new EventHub(
    () => links.states(),
    () => seal.evidence(),
  );
  const violations = new Violations(config.node, hub);
  if (parts.guarding.state === 'on')
    parts.guarding.guard.onViolation((violation) => violations.emit(violation, '', 0));
  const hosts = new Hosts({
    node: config.node,
    store,
    hub,
    violations,
    credentials,
    platform: parts.platform,
    sandboxed: !config.unsafe_no_sandbox,
    programs: config.program_folder,
    ...(parts.canaryAtStart === true && !config.unsafe_no_sandbox
      ? { canaryFirst: (signal) => parts.canary.ensure(CANARY_AGE_MS_MAX, signal) }
      : {}),
  });
  const seal: SealWatch = new SealWatch({
    engines: () => hosts.engines(),
    platform: parts.platform,
    guarding: parts.guarding,
    canary: parts.canary,
    sandboxOff: config.unsafe_no_sandbox,
  });
  const links: Links = new Links({ credentials, onBetter: () => hosts.reconsiderWays() });
  const pieces = new Pieces(store, credentials);
  let address = '';
  const { revocations } = credentials;
  const obeyed = new ObeyedCoordinator(config.node, () => revocations?.epoch ?? 0);
  const server = makeServer();
  server.add(
    AgentServiceDefinition,
    obeying(
      agentService({
        obeyed,
        node: config.node,
        cluster: config.cluster,
        version: parts.version,
        instance: parts.instance ?? '',
        pieces,
        hub,
        violations,
        heads: parts.heads,
        hosts,
        links,
        canary: parts.canary,
        doctor: parts.doctor,
        speed: parts.speed,
        address: () => address,
        sandbox: parts.sandbox,
        sandboxOff: config.unsafe_no_sandbox,
        connectList: connectListMessage(parts.guarding),
        ...(parts.onTold === undefined ? {} : { onTold: parts.onTold }),
        machine: await machineId(),
        revoke(list) {
          if (revocations === undefined || list.epoch <= revocations.epoch) return 0;
          parts.onRevoked?.(list);
          return revocations.apply(list) ?? 0;
        },
      }),
      obeyed,
    ),
  );
  server.add(RawDataPlaneDefinition, { frames: dataPlane(hosts) });
  server.add(RawPieceDefinition, pieces.service);
  server.add(LinkServiceDefinition, linkService);
  const access = accessInterceptor(config.cluster, ACCESS, {
    onRefused: (refusal) => log('warn', 'a call was refused', { ...refusal }),
    ...(credentials.revocations === undefined ? {} : { revocations: credentials.revocations }),
  });
  const stop = async (reason: string): Promise<void> => {
    log('info', 'stopping', { reason });
    seal.close();
    await hosts.close(reason);
    hub.close();
    links.close();
    server.forceShutdown();
    await store.close();
  };
  let listening: Listening;
  try {
    listening = await listen(server, config.listen, credentials, [access]);
    const host = config.listen.slice(0, config.listen.lastIndexOf(':'));
    if (host === '') throw badListen(config.listen);
    address = `${host}:${listening.port}`;
  } catch (error) {
    await stop('it could not listen');
    throw error;
  }
  log('info', 'listening', { address });
  return { address, listening, stop };
}

function badListen(address: string): MinikeepError {
  return new MinikeepError('listen.failed', `"${address}" is not an address`, {
    next: 'Give HOST:PORT, for example 127.0.0.1:0.',
  });
}
