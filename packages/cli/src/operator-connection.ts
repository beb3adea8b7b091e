/** Asks a running cluster's coordinator, with the operator's certificate that lies in its home. */
import { EXIT, MinikeepError, type Identity } from '@minikeep/protocol';
import { parseConfig } from '@minikeep/protocol/config';
import {
  connect,
  type Client,
  type CompatServiceDefinition,
  type ConnectionFault,
} from '@minikeep/protocol/rpc';
import { OperatorServiceDefinition, type OperatorServiceClient } from '@minikeep/protocol/v1';
import {
  FILES,
  RUNNING,
  readKeyFile,
  requireKeyFile,
  type NodeSettings,
  type Running,
} from '@minikeep/state';
import { homeFolder, nodeSettings, typedPath, type HomeFlags } from './home-folder.ts';

export interface OperatorConnection {
  readonly operator: OperatorServiceClient;
  readonly folder: string;
  readonly settings: NodeSettings;
  readonly running: Running;
  /** Another service of the coordinator. */
  readonly service: <Service extends CompatServiceDefinition>(
    definition: Service,
  ) => Client<Service>;
  close(): void;
}

/**
 * A fault of this connection becomes `cluster.not_running` or `cluster.connection_lost`. What the coordinator reports,
 * of nodes out of reach as well, stays as it is. Throws `home.no_cluster`, `home.not_coordinator`,
 * `cluster.not_running`, `home.*`.
 */
export function connectOperator(flags: HomeFlags): OperatorConnection {
  const folder = homeFolder(flags);
  const settings = nodeSettings(folder);
  if (settings.serves === undefined)
    throw new MinikeepError(
      'home.not_coordinator',
      `this is node ${settings.node}; the cluster ${settings.cluster_name} is asked on the node where its coordinator runs`,
      {
        next: `Run the command there: the coordinator was last at ${settings.coordinator_addresses[0] ?? 'an unknown address'}.`,
        exitCode: EXIT.usage,
      },
    );
  const text = readKeyFile(folder, FILES.running);
  if (text === undefined) throw notRunning(settings, folder);
  const running = parseConfig(RUNNING, text, FILES.running, 'coordinator');
  const pems = {
    authority: requireKeyFile(folder, FILES.authority),
    certificate: requireKeyFile(folder, FILES.operatorCertificate),
    privateKey: requireKeyFile(folder, FILES.operatorKey),
  };
  const identity: Identity = {
    cluster: settings.cluster_id,
    role: 'coordinator',
    name: settings.coordinator,
  };
  const closers: (() => void)[] = [];
  const service = <Service extends CompatServiceDefinition>(
    definition: Service,
  ): Client<Service> => {
    const connection = connect(
      definition,
      running.address,
      pems,
      identity,
      'the coordinator',
      (fault) =>
        fault.code === 'clock.skew'
          ? fault
          : (fault.reached ? lost : notRunning)(settings, folder, fault),
    );
    closers.push(() => connection.close());
    return connection.client;
  };
  return {
    operator: service(OperatorServiceDefinition),
    folder,
    settings,
    running,
    service,
    close() {
      for (const close of closers) close();
    },
  };
}

/** Runs `use` with a connection that is closed afterwards. */
export async function withOperator<T>(
  flags: HomeFlags,
  use: (connection: OperatorConnection) => Promise<T>,
): Promise<T> {
  const connection = connectOperator(flags);
  try {
    return await use(connection);
  } finally {
    connection.close();
  }
}

function notRunning(
  { cluster_name: name }: NodeSettings,
  folder: string,
  cause?: unknown,
): MinikeepError {
  return new MinikeepError('cluster.not_running', `the coordinator of ${name} does not run`, {
    next: `Start it: minikeep start --home ${typedPath(folder)}`,
    exitCode: EXIT.unreachable,
    cause,
  });
}

/** It was there, and may have begun what it was asked for. */
function lost(
  { cluster_name: name }: NodeSettings,
  folder: string,
  cause: ConnectionFault,
): MinikeepError {
  return new MinikeepError(
    'cluster.connection_lost',
    `the coordinator of ${name} ended, or fell silent, before it had answered`,
    {
      next: `What it had accepted goes on by itself: see minikeep status --home ${typedPath(folder)}, then run the command again if it is still needed.`,
      exitCode: EXIT.unreachable,
      cause,
    },
  );
}
