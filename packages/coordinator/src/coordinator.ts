/** One coordinator: the cluster's state and the server, put together, and taken apart again. */
import { connectListMessage, type Guarding } from '@minikeep/containment/guarded';
import type { Identity, Logger } from '@minikeep/protocol';
import { Home, State } from '@minikeep/state';
import {
  RawDataPlaneDefinition,
  RawPieceDefinition,
  accessInterceptor,
  listen,
  makeServer,
  readCredentials,
  type AccessRules,
} from '@minikeep/protocol/rpc';
import {
  LinkServiceDefinition,
  OperatorServiceDefinition,
  SealStatusServiceDefinition,
  OutputGuardServiceDefinition,
} from '@minikeep/protocol/v1';
import { Cluster } from './cluster.ts';
import type { CoordinatorConfig } from './config.ts';
import { operatorService } from './operator-service.ts';
import { outputGuardService } from './output/service.ts';
import { recordOwn } from './own-violations.ts';
import { sealStatusService } from './seal/service.ts';
import { homeStore } from './reconcile/home-store.ts';
import type { WantedStore } from './reconcile/store.ts';

/** Operators ask; the last stages' nodes send results (which node, the stream itself checks). */
const ACCESS: AccessRules = {
  'minikeep.v1.OperatorService': ['operator'],
  'minikeep.v1.SealStatusService': ['operator'],
  'minikeep.v1.OutputGuardService': ['operator'],
  'minikeep.v1.DataPlaneService': ['node'],
  // Which node which piece, a deployment says while it sends.
  'minikeep.v1.PieceService': ['node'],
  'minikeep.v1.LinkService': ['node'],
};

export interface RunningCoordinator {
  readonly address: string;
  /** Takes every deployment down and ends every connection. */
  stop(reason: string): Promise<void>;
}

/** Starts a coordinator. Throws `identity.files_unreadable`, `identity.files_invalid`, `listen.*`. */
export async function startCoordinator(
  config: CoordinatorConfig,
  version: string,
  guarding: Guarding,
  log: Logger,
): Promise<RunningCoordinator> {
  const { cluster: id, name, listen: listenOn } = config;
  const credentials = await readCredentials(config.credentials);
  const identity: Identity = { cluster: id, role: 'coordinator', name };
  let address = '';
  const kept = config.state_home === undefined ? undefined : openKept(config.state_home);
  const cluster = new Cluster({
    ...(kept === undefined ? {} : { store: kept.store }),
    cluster: id,
    identity,
    version,
    nodes: config.nodes.map((node) => ({ name: node.name, addresses: [node.address] })),
    credentials,
    cacheFolder: config.cache_folder,
    seal: { connectList: connectListMessage(guarding), proofWanted: false, keep: () => {} },
    addressesFor: () => [address],
  });
  recordOwn(guarding, name, new Uint8Array(), cluster.violations);
  const server = makeServer();
  server.add(OperatorServiceDefinition, operatorService(cluster, undefined));
  server.add(
    SealStatusServiceDefinition,
    sealStatusService(cluster, undefined, () => []),
  );
  server.add(OutputGuardServiceDefinition, outputGuardService(cluster));
  server.add(RawDataPlaneDefinition, { frames: cluster.results.handler });
  server.add(RawPieceDefinition, cluster.origin.service);
  server.add(LinkServiceDefinition, { probe: () => Promise.resolve({}) });
  const access = accessInterceptor(id, ACCESS, {
    onRefused: (refusal) => log('warn', 'a call was refused', { ...refusal }),
  });
  const stop = async (reason: string): Promise<void> => {
    log('info', 'stopping', { reason });
    await cluster.close();
    server.forceShutdown();
    kept?.close();
  };
  try {
    const { port } = await listen(server, listenOn, credentials, [access]);
    address = `${listenOn.slice(0, listenOn.lastIndexOf(':'))}:${port}`;
  } catch (error) {
    await stop('it could not listen');
    throw error;
  }
  cluster.start();
  log('info', 'listening', { address });
  return { address, stop };
}

/** Throws `home.*`, `state.*`. */
function openKept(folder: string): { readonly store: WantedStore; close(): void } {
  const home = Home.open(folder);
  try {
    const state = State.open(home, Date.now);
    const close = (): void => {
      state.close();
      home.close();
    };
    return { store: homeStore(state), close };
  } catch (error) {
    home.close();
    throw error;
  }
}
